"""DynamoDB: tables, items, transactions and streams are answered by Dynoxide, an engine on SQLite; one runs per Region."""

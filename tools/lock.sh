#!/bin/sh
# Compile pyproject.toml into exact versions, for Linux and macOS and Python 3.11 and newer.
# A version already in a file is kept while it still fits: delete its line to have that package updated.
set -eu

compile() {  # compile OUTPUT ARGUMENTS...: write the packages that ARGUMENTS need to OUTPUT
    output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --output-file "$output" "$@" >/dev/null
}

head_with() {  # head_with FILE LINE...: put LINEs before what is in FILE
    file=$1
    shift
    { printf '%s\n' "# Compiled from pyproject.toml by 'make lock': do not edit." "$@"; grep -v -e '^#' -e '^-e' "$file"; } >"$file.new"
    mv "$file.new" "$file"
}

# -e . installs the project itself, so that notebooks can import minicloud and datasets.
compile requirements.txt pyproject.toml
head_with requirements.txt "-e ."

# Beyond that, what the tests need.
grep -v '^-e' requirements.txt >requirements.pins
compile tests/requirements.txt pyproject.toml --extra dev --constraint requirements.pins
grep -vxFf requirements.pins tests/requirements.txt >tests/requirements.new
mv tests/requirements.new tests/requirements.txt
rm requirements.pins
head_with tests/requirements.txt

# The AWS CLI wants an older docutils than Sphinx does: it gets an environment of its own.
compile tests/requirements-aws-cli.txt --group aws-cli
head_with tests/requirements-aws-cli.txt

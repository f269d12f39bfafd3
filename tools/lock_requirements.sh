#!/usr/bin/env bash
# Recompile requirements/*.txt from pyproject.toml, with hashes, for every platform and Python >= 3.11.
# Versions stay as they are where they still fit; pass --upgrade to take newer ones.
# The role files follow dev.txt, so that what is tested is what is deployed.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # FILE ARGUMENTS...
  local file=requirements/$1.txt
  shift
  "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
    --generate-hashes --no-annotate --custom-compile-command "make lock" --output-file "$file" "$@"
}

compile dev pyproject.toml --all-extras --group dev "$@"
compile client pyproject.toml --extra client --group headless --constraint requirements/dev.txt "$@"
compile server pyproject.toml --extra server --extra postgres --extra s3 --constraint requirements/dev.txt "$@"
compile cluster pyproject.toml --extra server --extra postgres --extra s3 --extra ray --constraint requirements/dev.txt "$@"
compile auditor pyproject.toml --extra auditor --constraint requirements/dev.txt "$@"
compile build --group build --constraint requirements/dev.txt "$@"
compile lock --group lock "$@"

#!/bin/sh
# Prints the version of the commit: its tag or, without one, its hash. It does not
# depend on how much of the history is there. Outside a git checkout it fails.
set -eu
cd "$(dirname "$0")/.."
git describe --tags --exact-match --dirty 2>/dev/null ||
  git describe --always --abbrev=12 --exclude='*' --dirty

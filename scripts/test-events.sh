#!/usr/bin/env bash
# Reads the events of go test -json ("go doc cmd/test2json") and prints those that
# tell what ran and how it ended: ACTION TAB PACKAGE TAB TEST, with an empty TEST
# for a package.
sed -E 's/,"(Output|Elapsed)":.*//' | awk '
  function value(key) {
    if (!match($0, "\"" key "\":\"[^\"]*\"")) return ""
    return substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5)
  }
  { action = value("Action"); package = value("Package") }
  package != "" && action != "output" { print action "\t" package "\t" value("Test") }'

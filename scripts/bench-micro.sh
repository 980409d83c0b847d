#!/usr/bin/env bash
# Runs the benchmarks of the handshake, the records and the session. Figures
# that are compared come from the same run: a record and the bare cipher, a
# session that retains what it sends and one that does not. Prints the medians
# of COUNT runs (6 by default), with the machine and the versions.
#
#   COUNT      runs of each benchmark
#   BENCHTIME  time for each, 1s by default
#   ROUNDS     rounds in which the two kinds of session alternate, 100 by default
set -euo pipefail
cd "$(dirname "$0")/.."

# run PATTERN PACKAGE [BENCHTIME]
run() {
  go test -run '^$' -bench "$1" -benchtime "${3:-${BENCHTIME:-1s}}" -count "${COUNT:-6}" "$2"
}

out=$(mktemp)
trap 'rm -f "$out"' EXIT
echo "bench-micro: takes about ten minutes; leave the machine idle" >&2
run 'AEAD|Handshake|RecordTCP' ./protocol >>"$out"
run 'Frame|Scheduler|Stream|Ping|Throughput' ./tunnel/mux >>"$out"
run 'Retention' ./tunnel/mux "${ROUNDS:-100}x" >>"$out"

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
echo "$(date -u +%F), $(go version | cut -d' ' -f3), $(uname -sm), $(nproc) cores of $cpu"
awk '
  /^Benchmark/ {
    name = $1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
    if (!(name in runs)) order[++names] = name
    runs[name]++
    for (i = 3; i < NF; i += 2) {
      unit = $(i + 1)
      value[name, unit, runs[name]] = $i
      if (!((name, unit) in seen)) { seen[name, unit] = 1; units[name] = units[name] " " unit }
    }
  }
  function median(name, unit,   n, i, j, t, v) {
    n = runs[name]
    for (i = 1; i <= n; i++) v[i] = value[name, unit, i] + 0
    for (i = 2; i <= n; i++)
      for (j = i; j > 1 && v[j] < v[j-1]; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
  }
  END {
    for (k = 1; k <= names; k++) {
      printf "%-58s", order[k]
      m = split(units[order[k]], u, " ")
      for (i = 1; i <= m; i++) if (u[i] != "B/op") printf "  %s %s", median(order[k], u[i]), u[i]
      print ""
    }
  }' "$out"

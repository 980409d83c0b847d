package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// operation is one thing for scripts/interop/certs.js to do; a nil argument is JavaScript's null.
type operation struct {
	Op   string   `json:"op"`
	Args [][]byte `json:"args"`
}

func op(name string, args ...[]byte) operation {
	if args == nil {
		args = [][]byte{}
	}
	return operation{name, args}
}

type result struct {
	OK   bool   `json:"ok"`
	Text []byte `json:"text"`
}

// reference runs the operations with the real reference, in one process.
func reference(t testing.TB, ops []operation) []result {
	t.Helper()
	folder := filepath.Join("..", "scripts", "interop")
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is missing: make test-deps installs it")
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "nacl-cert")); err != nil {
		t.Fatal("the npm package nacl-cert is missing from scripts/interop/node_modules: make " +
			"test-deps installs it")
	}
	input, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--no-deprecation", "certs.js")
	cmd.Dir = folder
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("node certs.js: %v\n%s", err, stderr.Bytes())
	}
	var results []result
	if err := json.Unmarshal(output, &results); err != nil || len(results) != len(ops) {
		t.Fatalf("node certs.js: %d results for %d operations, %v", len(results), len(ops), err)
	}
	return results
}

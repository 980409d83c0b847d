package certs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(childTask); task != "" {
		os.Exit(runChild(task, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// childTask is the environment variable that makes the test binary do one of childTasks instead of
// running tests.
const childTask = "CULVERT_CERTS_TEST_CHILD"

// childTasks are the tasks for other processes. Their results are printed.
var childTasks = map[string]func(args []string) (string, error){
	"load": childLoad,
	"add":  childAdd,
}

func runChild(task string, args []string) int {
	out, err := childTasks[task](args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(out)
	return 0
}

// child prepares a process that does a task.
func child(t testing.TB, task string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	// The race detector would have the process wait a second before it exits.
	cmd.Env = append(os.Environ(), childTask+"="+task, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// testNow is a time at which the tests' certificates are valid.
var testNow = time.Now().Truncate(time.Millisecond)

// newCA makes a CA that is valid for a day.
func newCA(t testing.TB, name string) *CA {
	t.Helper()
	ca, err := NewCA(rand.Reader, name, testNow, testNow.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue makes a certificate that is valid for an hour; edit changes the request.
func issue(t testing.TB, ca *CA, edit func(*Request)) *Certificate {
	t.Helper()
	req := Request{PublicKey: newKeyPair(t).Public(), Names: []string{"a.com"},
		Expires: testNow.Add(time.Hour)}
	if edit != nil {
		edit(&req)
	}
	c, err := ca.Issue(rand.Reader, testNow, req)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantReason checks that err is a refusal for exactly this reason.
func wantReason(t testing.TB, what string, err error, want Reason) {
	t.Helper()
	var refusal *VerifyError
	if !errors.As(err, &refusal) || refusal.Reason != want {
		t.Errorf("%s: got %v, want a refusal: %v", what, err, want)
	}
}

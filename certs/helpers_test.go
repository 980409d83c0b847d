package certs

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
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
	req := Request{PublicKey: newKeyPair(t).Public(), Names: []string{"a.com"}, Expires: testNow.Add(time.Hour)}
	if edit != nil {
		edit(&req)
	}
	c, err := ca.Issue(rand.Reader, testNow, req)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantReason checks that err is a refusal for this very reason.
func wantReason(t testing.TB, what string, err error, want Reason) {
	t.Helper()
	var refusal *VerifyError
	if !errors.As(err, &refusal) || refusal.Reason != want {
		t.Errorf("%s: got %v, want a refusal: %v", what, err, want)
	}
}

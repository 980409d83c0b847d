package certs

import (
	"testing"
)

func TestIssueVerify(t *testing.T) {
	ca := newCA(t, "test")
	c := issue(t, ca, nil)
	if err := c.Verify(VerifyOptions{CA: ca.Certificate(), Now: testNow}); err != nil {
		t.Error(err)
	}
	if err := ca.Certificate().Verify(VerifyOptions{Now: testNow}); err != nil {
		t.Error(err)
	}
}

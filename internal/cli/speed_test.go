package cli

import (
	"testing"

	"culvert/tunnel/speed"
)

// TestExplainLimits: people are told which end and setting to change, and to what.
func TestExplainLimits(t *testing.T) {
	const receive, send = "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"
	for _, c := range []struct {
		reason     speed.Reason
		what, todo string
	}{
		{speed.Reason{Limit: speed.LimitLink}, "the link", ""},
		{
			speed.Reason{Limit: speed.LimitWindow, End: speed.Remote, Setting: receive, Value: 131072},
			"the receive window of the kernel at the remote",
			"raise the third number of net.ipv4.tcp_rmem at the remote, which is 131072",
		},
		{
			speed.Reason{Limit: speed.LimitBuffer, End: speed.Local, Setting: send, Value: 4194304},
			"the send buffer of the kernel at this end",
			"raise the third number of net.ipv4.tcp_wmem at this end, which is 4194304, " +
				"to more than twice that",
		},
		{
			speed.Reason{Limit: speed.LimitBuffer, End: speed.Local},
			"the send buffer of the kernel at this end",
			"the third number of net.ipv4.tcp_wmem at this end may bound it",
		},
		{
			speed.Reason{Limit: speed.LimitShare, End: speed.Remote, Value: 2_000_000},
			"the remote, which grants you 2.00 MB/s", "ask its operator for a higher rate",
		},
		{
			speed.Reason{Limit: speed.LimitBuffer, End: speed.Local, Setting: send, Value: 4194304,
				Proxied: true},
			"the send buffer of the kernel at this end",
			"a proxy is in between, which hides what is behind it: measure without it to be sure",
		},
		{
			speed.Reason{Limit: speed.LimitShare, End: speed.Remote, Value: 999_700, Proxied: true},
			"the remote, which grants you 1000 kB/s", "ask its operator for a higher rate",
		},
	} {
		if what, todo := explain(c.reason); what != c.what || todo != c.todo {
			t.Errorf("%+v: %q, %q", c.reason, what, todo)
		}
	}
}

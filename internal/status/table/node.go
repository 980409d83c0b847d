package table

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"culvert/internal/state"
)

// shownEvents is how many of the last events are shown.
const shownEvents = 6

// keyLength is how much of a key tells it from others.
const keyLength = 12

// List shows the nodes that run.
func List(w io.Writer, nodes []state.State, silent []string, width int) error {
	var b bytes.Buffer
	if len(nodes)+len(silent) == 0 {
		writeLine(&b, width, "no node is running")
		return flush(w, &b)
	}
	var rows [][]string
	for _, s := range nodes {
		rows = append(rows, []string{
			s.Node.Name, strconv.Itoa(s.Node.PID), age(s.Node.Started, s.Time), summary(s),
			where(s.Node),
		})
	}
	for _, name := range silent {
		rows = append(rows, []string{name, "", "", "no answer", ""})
	}
	grid(&b, width, []column{
		{"NAME", 16, false}, {"PID", 7, true}, {"UP", 6, true}, {"STATE", 13, false},
		{"WHERE", 0, false},
	}, rows)
	return flush(w, &b)
}

// summary describes a node in a word or two.
func summary(s state.State) string {
	switch {
	case s.Node.Draining:
		return "draining"
	case s.Node.Kind == state.KindRemote:
		return count(len(s.Sessions), "session")
	case s.Carrier != nil:
		return "up"
	case len(s.Sessions) > 0:
		return "lost"
	}
	return "connecting"
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// where shows where a node is reached, or leads.
func where(n state.Node) string {
	if n.Remote != "" {
		return n.Remote
	}
	var addresses []string
	for _, l := range n.Listen {
		addresses = append(addresses, l.Address)
	}
	return strings.Join(addresses, ", ")
}

// Node shows what one node is doing.
func Node(w io.Writer, s state.State, width int) error {
	var b bytes.Buffer
	n := s.Node
	field(&b, width, n.Name, "%s %s, pid %d, up %s, %s",
		n.Kind, n.Version, n.PID, age(n.Started, s.Time), summary(s))
	if n.Remote != "" {
		field(&b, width, "remote", "%s", n.Remote)
	}
	if n.PublicKey != "" {
		field(&b, width, "key", "%s", n.PublicKey)
	}
	carrier(&b, width, s)
	t := s.Totals
	field(&b, width, "received", "%s, %s", size(t.ReceivedBytes), rate(t.ReceivedRate))
	field(&b, width, "sent", "%s, %s", size(t.SentBytes), rate(t.SentRate))
	field(&b, width, "so far", "%s, resumed %d times, %s, %s sent again",
		count(int(t.Sessions), "session"), t.Resumptions, count(int(t.Streams), "stream"),
		size(t.ResentBytes))
	listeners(&b, width, n.Listen)
	if n.Kind == state.KindRemote {
		sessions(&b, width, s)
		shares(&b, width, s)
	}
	streams(&b, width, s)
	events(&b, width, s)
	return flush(w, &b)
}

// carrier shows the connection to the remote.
func carrier(b *bytes.Buffer, width int, s state.State) {
	c := s.Carrier
	if c == nil {
		return
	}
	field(b, width, "carrier", "up %s, round trip %s, %s", age(c.Since, s.Time),
		roundTrip(c), cmp.Or(c.CongestionControl, "the system's congestion control"))
	field(b, width, "", "%s", security(c))
	field(b, width, "peer", "%s", c.PeerKey)
	if c.Certificate != nil {
		field(b, width, "", "certificate for %s, until %s", c.Certificate.Subject,
			c.Certificate.Expires.Local().Format("2006-01-02 15:04"))
	}
}

func roundTrip(c *state.Carrier) string {
	if c.RoundTripSeconds == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%.1f ms", c.RoundTripSeconds*1e3)
}

func security(c *state.Carrier) string {
	secrecy := "forward secrecy"
	if !c.ForwardSecrecy {
		secrecy = "no forward secrecy"
	}
	return fmt.Sprintf("version %d, %s, %s", c.Version, c.Suite, secrecy)
}

func listeners(b *bytes.Buffer, width int, all []state.Listener) {
	for i, l := range all {
		name := ""
		if i == 0 {
			name = "listening"
		}
		target := ""
		if l.Target != "" {
			target = " → " + l.Target
		}
		field(b, width, name, "%-8s %s%s", l.Kind, l.Address, target)
	}
}

// sessions shows those of a remote.
func sessions(b *bytes.Buffer, width int, s state.State) {
	if len(s.Sessions) == 0 {
		return
	}
	var rows [][]string
	for _, session := range s.Sessions {
		trip, how := "–", "–"
		if c := session.Carrier; c != nil {
			trip = roundTrip(c)
			how = security(c)
		}
		if session.State != state.SessionCarried {
			how = session.State
		}
		rows = append(rows, []string{
			client(session), session.From,
			age(session.Since, s.Time), strconv.Itoa(session.Streams),
			rate(session.ReceivedRate), rate(session.SentRate), trip, how,
		})
	}
	b.WriteByte('\n')
	columns := []column{
		{"CLIENT", 0, false}, {"FROM", 15, false}, {"AGE", 6, true}, {"STREAMS", 7, true},
		{"RECEIVED", 9, true}, {"SENT", 9, true}, {"TRIP", 8, true},
	}
	const wide = 120
	if width >= wide {
		columns = append(columns, column{"CARRIER", 40, false})
	} else if anyAway(s) {
		columns[6] = column{"STATE", 8, false}
		for i := range rows {
			rows[i][6] = s.Sessions[i].State
		}
	}
	grid(b, width, columns, rows)
}

// shares shows the clients of a remote that have a rate or a quota, and what they have used of it.
func shares(b *bytes.Buffer, width int, s state.State) {
	var rows [][]string
	seen := map[string]bool{} // a client may have several sessions
	for _, session := range s.Sessions {
		l := session.Limits
		if l == nil || l.RateUp+l.RateDown+l.QuotaBytes == 0 || seen[l.Client] {
			continue
		}
		seen[l.Client] = true
		used, quota := "–", "–"
		if l.QuotaBytes > 0 {
			used, quota = size(l.QuotaUsedBytes), size(l.QuotaBytes)
		}
		who := client(session)
		if l.Client != session.Key { // an address, of all its keys
			who = l.Client
		}
		rows = append(rows, []string{
			who, rate(float64(l.RateUp)), rate(float64(l.RateDown)), used, quota,
		})
	}
	if len(rows) == 0 {
		return
	}
	b.WriteByte('\n')
	grid(b, width, []column{
		{"SHARE OF", 0, false}, {"RATE UP", 9, true}, {"RATE DOWN", 9, true},
		{"USED TODAY", 10, true}, {"QUOTA", 8, true},
	}, rows)
}

// client names the client of a session.
func client(session state.Session) string {
	return cmp.Or(session.Comment, cut(session.Key, keyLength))
}

func anyAway(s state.State) bool {
	for _, session := range s.Sessions {
		if session.State != state.SessionCarried {
			return true
		}
	}
	return false
}

func streams(b *bytes.Buffer, width int, s state.State) {
	if len(s.Streams) == 0 {
		return
	}
	var rows [][]string
	for _, stream := range s.Streams {
		target := cmp.Or(stream.Target, "(any)")
		if stream.Kind == "udp" {
			target += "/udp"
		}
		if stream.State != state.StreamOpen {
			target += " (" + stream.State + ")"
		}
		rows = append(rows, []string{
			target, age(stream.Since, s.Time), size(stream.ReceivedBytes), rate(stream.ReceivedRate),
			size(stream.SentBytes), rate(stream.SentRate), stream.Listener,
		})
	}
	b.WriteByte('\n')
	columns := []column{
		{"STREAM TO", 0, false}, {"AGE", 6, true}, {"RECEIVED", 8, true}, {"", 9, true},
		{"SENT", 8, true}, {"", 9, true},
	}
	const wide = 104
	if width >= wide {
		columns = append(columns, column{"THROUGH", 22, false})
	}
	grid(b, width, columns, rows)
}

func events(b *bytes.Buffer, width int, s state.State) {
	all := s.Events
	if len(all) > shownEvents {
		all = all[len(all)-shownEvents:]
	}
	if len(all) > 0 {
		b.WriteByte('\n')
	}
	for _, e := range all {
		who := cmp.Or(e.Comment, cut(e.Key, keyLength))
		field(b, width, e.Time.Local().Format("15:04:05"), "%-15s %-12s %s", e.Kind, who, e.Reason)
	}
}

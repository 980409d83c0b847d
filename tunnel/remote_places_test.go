package tunnel

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fairly runs steps on fairPlaces a second apart, each a client that takes a place, and returns
// those that had to leave, in order, and the number of places taken at the end. A name's first
// letter is its source: capitals are known, '?' is the unknown source. "a1!" makes progress, and
// "a1-" leaves.
func fairly(t *testing.T, most, share, reserved int, steps []string) (out []string) {
	f := newFairPlaces(most, share, reserved)
	places := map[string]*fairPlace{}
	synctest.Test(t, func(t *testing.T) {
		for _, step := range steps {
			time.Sleep(time.Second)
			name := step[:2]
			switch {
			case len(step) == 2:
				from := sourceOf(netip.AddrFrom4([4]byte{192, 0, 2, name[0]}))
				if name[0] == '?' {
					from = source{}
				}
				known := name[0] < 'a' && name[0] != '?'
				places[name] = f.take(from, known, func() { out = append(out, name) })
			case step[2] == '!':
				places[name].touch()
			default:
				places[name].leave()
			}
		}
	})
	return append(out, fmt.Sprint(f.taken()))
}

func TestFairPlaces(t *testing.T) {
	for name, test := range map[string]struct {
		most, share, reserved int
		steps                 []string
		want                  []string
	}{
		"room": {3, 3, 0, []string{"a1", "b1", "c1"}, []string{"3"}},
		"left places are free": {2, 2, 0, []string{"a1", "a2", "a1-", "a1-", "b1", "c1"},
			[]string{"a2", "2"}},
		"the share is the source's own": {9, 2, 0, []string{"a1", "b1", "a2", "a3"},
			[]string{"a1", "3"}},
		"the unknown source has no share": {9, 2, 0, []string{"?1", "?2", "?3", "?4"},
			[]string{"4"}},
		"who holds most yields": {4, 3, 0, []string{"b1", "a1", "a2", "a3", "c1", "d1"},
			[]string{"a1", "a2", "4"}},
		"the oldest of equals yields": {3, 3, 0, []string{"a1", "b1", "c1", "d1", "a2"},
			[]string{"a1", "b1", "3"}},
		"who would hold most yields itself": {4, 4, 0, []string{"b1", "b2", "a1", "a2", "a3"},
			[]string{"a1", "4"}},
		"progress keeps a place": {2, 2, 0, []string{"a1", "a2", "a1!", "a3"},
			[]string{"a2", "2"}},
		"the unknown source yields too": {2, 2, 0, []string{"?1", "?2", "?3", "?2!", "?4"},
			[]string{"?1", "?3", "2"}},
		"strangers don't get the reserved ones": {4, 4, 2, []string{"a1", "b1", "c1", "d1"},
			[]string{"a1", "b1", "2"}},
		"known sources do": {4, 4, 2, []string{"a1", "b1", "K1", "L1", "c1"},
			[]string{"a1", "4"}},
		"known sources replace strangers": {4, 4, 2,
			[]string{"K1", "L1", "a1", "b1", "M1", "N1", "O1"},
			[]string{"a1", "b1", "K1", "4"}},
		"known sources have a share": {9, 1, 2, []string{"K1", "K2"}, []string{"K1", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := fairly(t, test.most, test.share, test.reserved, test.steps)
			if !slices.Equal(got, test.want) {
				t.Errorf("left %v, want %v", got, test.want)
			}
		})
	}
}

func TestSourceOf(t *testing.T) {
	for _, test := range [][2]string{
		{"192.0.2.1", "192.0.2.1/32"},
		{"::ffff:192.0.2.1", "192.0.2.1/32"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"fe80::1%eth0", "fe80::/64"},
		{"127.0.0.1", "invalid Prefix"},
		{"::1", "invalid Prefix"},
		{"::ffff:127.0.0.1", "invalid Prefix"},
	} {
		if got := sourceOf(netip.MustParseAddr(test[0])).String(); got != test[1] {
			t.Errorf("%s: %s, want %s", test[0], got, test[1])
		}
	}
	if from := sourceOf(netip.Addr{}); from.IsValid() {
		t.Errorf("of no address: %s", from)
	}
}

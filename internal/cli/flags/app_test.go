package flags

import (
	"context"
	"time"
)

// testOptions are the options of all commands of testApp.
type testOptions struct {
	key, socks, socksAuth, level, fastOpen, out, name, ca, path, url string

	accept, ready           bool
	days, streams           int
	keepalive               time.Duration
	listen, forwards, names []string
	argv                    []string
}

// testApp returns a program with commands like culvert's, which share their options.
func testApp() (*App, *testOptions) {
	o := &testOptions{}
	run := func(context.Context) error { return nil }
	url := func(text string) error {
		o.url = text
		return nil
	}
	common := func(s *Set) {
		s.Argument("REMOTE_URL", url)
		s.Group("identity")
		s.String(&o.key, "key", "", "`FILE`")
		s.Bool(&o.accept, "accept-new", "accept")
		s.Duration(&o.keepalive, "keepalive", 20*time.Second, "`TIME`")
		s.String(&o.level, "log-level", "info", "`LEVEL`").
			Values("debug", "info", "warn", "error", "disabled")
	}
	fastOpen := func(s *Set) {
		s.Strings(&o.forwards, "L", nil, "`FORWARD`").Reloadable()
		s.String(&o.fastOpen, "fast-open", "auto", "`MODE`").Values("auto", "always", "never")
	}
	return NewApp("culvert", "test", "v0",
		&Command{Name: "remote", Run: run, Define: func(s *Set) {
			s.Strings(&o.listen, "listen", []string{"127.0.0.1:8080"}, "`ADDR`")
			s.String(&o.path, "path", "/", "`PATH`")
			s.Int(&o.streams, "max-streams", 1, "`N`")
		}},
		&Command{Name: "local", Run: run, Define: func(s *Set) {
			common(s)
			s.String(&o.socks, "socks,D", "127.0.0.1:1080", "`ADDR`")
			s.String(&o.socksAuth, "socks-auth", "", "`USER:PASS`").Secret()
			fastOpen(s)
			s.Bool(&o.ready, "print-ready", "ready")
		}},
		&Command{Name: "run", Run: run, Define: func(s *Set) {
			common(s)
			fastOpen(s)
			s.Command(&o.argv)
		}},
		&Command{Name: "check", Run: run, Define: common},
		&Command{Name: "keygen", Run: run, Define: func(s *Set) {
			s.String(&o.out, "out,o", "", "`FILE`")
		}},
		&Command{Name: "cert", Commands: []*Command{
			{Name: "ca", Run: run, Define: func(s *Set) {
				s.String(&o.name, "name", "", "`NAME`").Required()
				s.Int(&o.days, "days", 1, "`N`")
			}},
			{Name: "issue", Run: run, Define: func(s *Set) {
				s.String(&o.key, "ca-key", "", "`FILE`").Required()
				s.Strings(&o.names, "name", nil, "`NAME`")
			}},
			{Name: "show", Run: run, Define: func(s *Set) { s.Argument("CERTIFICATE", url) }},
			{Name: "verify", Run: run, Define: func(s *Set) {
				s.String(&o.ca, "ca", "", "`FILE`")
				s.Argument("CERTIFICATE", url)
			}},
		}},
		&Command{Name: "demo", Run: run},
		Completion(),
	), o
}

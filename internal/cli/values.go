package cli

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"culvert/internal/cli/flags"
	"culvert/tunnel/policy"
)

// leastNumber returns an error if the number of a flag is less than least.
func leastNumber(flag string, n, least, example int) error {
	if n >= least {
		return nil
	}
	return &flags.ValueError{
		Flag: flag, Value: strconv.Itoa(n), Why: "it must be at least " + strconv.Itoa(least),
		Example: strconv.Itoa(example),
	}
}

// leastDuration returns an error if the duration of a flag is less than least.
func leastDuration(flag string, d, least, example time.Duration) error {
	if d >= least {
		return nil
	}
	why := "it must be at least " + shortDuration(least)
	if least == 1 {
		why = "it must be more than 0"
	}
	return &flags.ValueError{
		Flag: flag, Value: d.String(), Why: why,
		Example: shortDuration(example),
	}
}

// shortDuration returns a duration without units that are zero: 2m instead of 2m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// badRule returns the error of a rule that a flag has.
func badRule(flag, form, example string, err error) error {
	bad := &flags.ValueError{Flag: flag, Form: form, Example: example, Why: err.Error()}
	if rule, ok := errors.AsType[*policy.RuleError](err); ok {
		bad.Value, bad.Why = rule.Rule, rule.Why
	}
	return bad
}

// The hosts of addresses that are a port alone: what listens for this machine's programs, and what
// serves others.
const (
	thisMachine = "127.0.0.1"
	everyone    = ""
)

// listenAddress returns the address of a flag as listen takes it: unix:PATH, or HOST:PORT. A port
// alone gets the host, and the host * stands for all addresses.
func listenAddress(flag, text, host, example string) (string, error) {
	fail := func(why string) (string, error) {
		return "", &flags.ValueError{
			Flag: flag, Value: text, Why: why, Form: addressForm, Example: example,
		}
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return fail("the socket's path is empty")
		}
		return text, nil
	}
	address := text
	if !strings.ContainsAny(text, ":.") && strings.TrimLeft(text, "0123456789") != text {
		address = net.JoinHostPort(host, text) // a port, or meant to be one
	}
	bind, port, err := net.SplitHostPort(address)
	if err != nil {
		return fail(addressFault(address))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fail("port must be 0 to 65535")
	}
	if bind == "*" {
		bind = ""
	}
	return net.JoinHostPort(bind, port), nil
}

// addressFault describes why text is not HOST:PORT.
func addressFault(text string) string {
	switch {
	case strings.ContainsAny(text, "[]"):
		return "brackets enclose an IPv6 address, and :PORT follows"
	case strings.Count(text, ":") > 1:
		return "an IPv6 address must be in brackets"
	}
	return "the port is missing"
}

const addressForm = "it is PORT, HOST:PORT, :PORT or unix:PATH"

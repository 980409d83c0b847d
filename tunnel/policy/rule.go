package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// RuleError is the error for a malformed rule.
type RuleError struct {
	Rule string
	Why  string
}

func (e *RuleError) Error() string { return fmt.Sprintf("bad rule %q: %s", e.Rule, e.Why) }

// rule is one target rule: hosts, and their ports.
//
//	rule  = host [":" ports] | "unix:" absolute path
//	host  = "*" | "private" | name | glob | IPv4 address or prefix | "[" IPv6 address or prefix "]"
//	ports = port *("," port)
//	port  = number ["-" number]
type rule struct {
	any    bool         // "*": all names and addresses
	local  bool         // "private": the addresses of privates
	name   string       // a name or a glob, lower case, without a trailing dot
	glob   bool         // the name contains "*", which matches any characters, dots too
	prefix netip.Prefix // of addresses, never IPv4-mapped; otherwise not valid
	ports  []portRange  // empty for all
	socket string       // path of a unix socket; then all other fields are empty
}

type portRange struct{ first, last uint16 }

// parseRules parses lists of rules, separated by commas. A port or range of ports after a comma
// belongs to the rule before it: no host name consists of digits alone.
func parseRules(lists []string) ([]rule, error) {
	var rules []rule
	for _, list := range lists {
		texts, err := splitRules(list)
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			r, why := parseRule(text)
			if why != nil {
				return nil, &RuleError{text, why.Error()}
			}
			if rules = append(rules, r); len(rules) > maxRules {
				return nil, fmt.Errorf("more than %d rules", maxRules)
			}
		}
	}
	return rules, nil
}

func splitRules(list string) ([]string, error) {
	var texts []string
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" || strings.Trim(item, "0123456789-") != "" {
			texts = append(texts, item)
			continue
		}
		if len(texts) == 0 {
			return nil, &RuleError{item, "ports without a host"}
		}
		texts[len(texts)-1] += "," + item
	}
	return texts, nil
}

func parseRule(text string) (rule, error) {
	if socket, ok := strings.CutPrefix(text, UnixPrefix); ok {
		if !isSocketPath(socket) || strings.Contains(socket, ",") {
			return rule{}, errors.New(
				"a socket is unix: and an absolute path without //, /../ and commas",
			)
		}
		return rule{socket: socket}, nil
	}
	host, ports, bracketed, err := cutRule(text)
	if err != nil {
		return rule{}, err
	}
	var r rule
	if ports != "" {
		if r.ports, err = parsePorts(ports[1:]); err != nil {
			return rule{}, err
		}
	}
	switch {
	case bracketed || strings.Contains(host, "/"):
		r.prefix, err = parsePrefix(host)
		if err == nil && bracketed && !strings.Contains(host, ":") {
			err = errors.New("brackets are for IPv6 addresses")
		}
	case host == "*":
		r.any = true
	case strings.EqualFold(host, "private"): // a host of that name is written with a dot at its end
		r.local = true
	default:
		if r.prefix, err = parsePrefix(host); err != nil {
			r.name, err = parsePattern(host)
			r.glob = strings.Contains(host, "*")
		}
	}
	return r, err
}

// cutRule splits a rule into its host, without brackets, and its ports, with the colon before them.
func cutRule(text string) (host, ports string, bracketed bool, err error) {
	if inside, ok := strings.CutPrefix(text, "["); ok {
		host, ports, ok = strings.Cut(inside, "]")
		if !ok || (ports != "" && ports[0] != ':') {
			return "", "", false, errors.New("brackets don't match")
		}
		return host, ports, true, nil
	}
	if strings.Count(text, ":") > 1 {
		return "", "", false, errors.New("an IPv6 address must be in brackets")
	}
	at := strings.IndexByte(text, ':')
	if at < 0 {
		at = len(text)
	}
	if at == 0 {
		return "", "", false, errors.New("the host is missing")
	}
	return text[:at], text[at:], false, nil
}

func parsePorts(text string) ([]portRange, error) {
	var ports []portRange
	for item := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || first == 0 || last < first {
			return nil, fmt.Errorf("%q is not a port from 1 to 65535 or a range of them", item)
		}
		ports = append(ports, portRange{uint16(first), uint16(last)})
	}
	return ports, nil
}

// parsePrefix parses an address or a prefix.
func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New("not an address")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, errors.New(
			"not an address with a number of bits, such as 10.0.0.0/8",
		)
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < mappedBits {
			return netip.Prefix{}, errors.New("write an IPv4 address in its own form")
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf(
			"bits are set beyond the prefix; write %s, or the address alone",
			prefix.Masked(),
		)
	}
	return prefix, nil
}

// isSocketPath reports whether a path is absolute and in its shortest form, links aside, so that
// rules can compare it.
func isSocketPath(s string) bool {
	return path.IsAbs(s) && path.Clean(s) == s && !strings.Contains(s, "\x00")
}

// mappedBits is the length of the prefix of IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2).
const mappedBits = 96

// parsePattern parses a name or a glob.
func parsePattern(text string) (string, error) {
	name := plainName(text)
	if !isName(strings.ReplaceAll(name, "*", "x")) {
		return "", errors.New("not a host name: use letters, digits, -, _ and dots " +
			"(other scripts as xn--…), and * for any characters")
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if strings.Trim(last, "0123456789") == "" || strings.Trim(name, "0123456789.*") == "" {
		return "", errors.New(
			"neither an address nor a name; write a range of addresses as 10.0.0.0/8",
		)
	}
	return name, nil
}

// plainName returns a name in the form in which rules compare it.
func plainName(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// isName reports whether a plain name can be that of a host (RFC 1123, section 2.1; _ is in use,
// too).
func isName(name string) bool {
	if name == "" || len(name) > maxNameLength {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabelLength {
			return false
		}
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// hasPort reports whether the rule covers a port.
func (r *rule) hasPort(port uint16) bool {
	for _, p := range r.ports {
		if p.first <= port && port <= p.last {
			return true
		}
	}
	return len(r.ports) == 0
}

// hasName reports whether the rule covers a plain name.
func (r *rule) hasName(name string) bool {
	if !r.glob {
		return r.any || r.name == name
	}
	// Apart from the rule's stars, neither contains a character that is special to Match.
	matched, _ := path.Match(r.name, name)
	return matched
}

// hasAddr reports whether the rule covers an address, which has no zone and is not IPv4-mapped.
func (r *rule) hasAddr(addr netip.Addr) bool {
	return r.any || r.prefix.Contains(addr) || (r.local && isPrivate(addr))
}

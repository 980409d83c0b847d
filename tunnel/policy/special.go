package policy

import "net/netip"

// special is a range of addresses that is forbidden unless a rule allows it explicitly.
type special struct {
	prefix   netip.Prefix
	metadata bool // a cloud's service that gives the credentials of its machine to any client
}

// specials are the special ranges, wider ones before those within them. The addresses of cloud
// metadata are listed apart from the link-local range that some are in, so that a rule for that
// range doesn't allow them.
var specials = []special{
	{
		netip.MustParsePrefix("0.0.0.0/8"),
		false,
	}, // "this host" (RFC 6890); 0.0.0.0 reaches loopback
	{netip.MustParsePrefix("::/128"), false},             // the same
	{netip.MustParsePrefix("224.0.0.0/4"), false},        // multicast (RFC 5771)
	{netip.MustParsePrefix("ff00::/8"), false},           // multicast (RFC 4291)
	{netip.MustParsePrefix("255.255.255.255/32"), false}, // broadcast (RFC 919)
	{netip.MustParsePrefix("169.254.0.0/16"), false},     // link-local (RFC 3927)
	{netip.MustParsePrefix("fe80::/10"), false},          // link-local (RFC 4291)
	{netip.MustParsePrefix("169.254.169.254/32"), true},  // metadata of most clouds
	{netip.MustParsePrefix("169.254.170.2/32"), true},    // credentials of Amazon's containers
	{netip.MustParsePrefix("fd00:ec2::254/128"), true},   // Amazon's by IPv6
	{netip.MustParsePrefix("fd20:ce::254/128"), true},    // Google's by IPv6
	{netip.MustParsePrefix("100.100.100.200/32"), true},  // Alibaba's
	{netip.MustParsePrefix("168.63.129.16/32"), true},    // the host of Azure's machines
}

// isMetadataName reports whether a plain name is by convention that of a cloud's metadata service.
func isMetadataName(name string) bool {
	switch name {
	case "metadata.google.internal",
		"metadata.goog",
		"metadata.azure.internal",
		"metadata.tencentyun.com",
		"instance-data",
		"instance-data.ec2.internal":
		return true
	}
	return false
}

// specialsOf returns the special ranges that contain an address without a zone.
func specialsOf(addr netip.Addr) []special {
	var of []special
	for _, s := range specials {
		if s.prefix.Contains(addr) {
			of = append(of, s)
		}
	}
	return of
}

// liesIn reports whether outer contains all of inner.
func liesIn(inner, outer netip.Prefix) bool {
	return inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

var (
	nat64 = netip.MustParsePrefix(
		"64:ff9b::/96",
	) // RFC 6052, section 2.1: the IPv4 address is the last 4 bytes
	sixToIV = netip.MustParsePrefix(
		"2002::/16",
	) // RFC 3056, section 2: the IPv4 address is bytes 2 to 5
)

// embedded returns the IPv4 address to which an IPv6 address leads through a translator or a relay,
// if it is of that kind. What is forbidden over IPv4 must not be reachable that way.
func embedded(addr netip.Addr) []netip.Addr {
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[12:16]))}
	case sixToIV.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	}
	return nil
}

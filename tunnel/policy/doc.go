// Package policy decides what a remote may reach and bind for its clients, and dials and listens
// accordingly.
//
// [Rules] are about targets. A program parses them once and dials through them:
//
//	rules, err := policy.ParseRules([]string{"*.example.org:443", "10.0.0.0/8"}, nil)
//	...
//	conn, err := rules.Dial(ctx, "tcp", "www.example.org:443")
//
// They check the name of a target, then each address it resolves to, and dial only addresses that
// passed. Addresses that are special, such as link-local ones and those of cloud metadata services,
// are forbidden unless a rule allows them explicitly.
//
// [ReverseRules] are about the addresses a remote may listen on, each a [Bind].
//
// Both, and the [Share] of a remote that a client may use, are part of its [Rights], which the file
// of authorized keys can set for single clients: see [Rights.ForKeys]. The grammar of rules is in
// docs/rules.md.
//
// The package knows nothing of sessions and streams.
package policy

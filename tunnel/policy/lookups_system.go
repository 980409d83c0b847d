//go:build cgo || darwin || windows

package policy

// outlivesContext is true: the resolver may be the system's, which goes on when its context is
// done.
const outlivesContext = true

//go:build unix && !darwin

package stdstream

import "os"

// hangupEvents returns what to ask poll(2) for to learn of a hangup.
func hangupEvents(*os.File) int16 { return 0 }

//go:build linux && !race

package e2e

// raceEnabled reports whether this test, and so the program it builds, has the race detector.
const raceEnabled = false

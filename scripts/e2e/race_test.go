//go:build linux && race

package e2e

// raceEnabled says that this test, and so the program it builds, has the race detector.
const raceEnabled = true

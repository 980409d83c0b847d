//go:build race

package testnet

// RaceEnabled reports whether the test, and so a program that it builds, has the race detector.
const RaceEnabled = true

//go:build race

package tunnel

// usualSeeds is for the race detector, with which a simulated hour takes eight times as long. The
// others run without it.
const usualSeeds = 4

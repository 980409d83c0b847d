//go:build !race

package tunnel

// usualSeeds is how many seeds TestSimulation has by default.
const usualSeeds = 10

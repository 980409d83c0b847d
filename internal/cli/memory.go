package cli

import (
	"math"
	"runtime/debug"
	"strconv"
	"strings"

	"culvert/internal/cli/flags"
	"culvert/tunnel"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/docker/go-units"
	"github.com/rs/zerolog"
)

const (
	// defaultPercent is --memory unless it is given. The rest is for other programs, for what the
	// budget does not count, and for Go's collector, which lets garbage grow before it collects.
	defaultPercent = 25

	// leastMemory is the smallest budget, in bytes: less would slow down a single client. mostMemory
	// is more than any machine has, which keeps sizes from overflowing; on 32 bits it is 2 GiB, the
	// address space that a program has on all systems.
	leastMemory = 64 << 20
	mostMemory  = min(1<<50, math.MaxInt+1)
)

// defaultMemory is the default of --memory.
var defaultMemory = strconv.Itoa(defaultPercent) + "%"

// memoryOption is the size of the memory budget of a process.
type memoryOption struct {
	size  string
	given bool
}

func (o *memoryOption) define(s *flags.Set) {
	s.Group("limits")
	s.String(&o.size, "memory", defaultMemory, "limit the memory for the data of all streams to "+
		"`SIZE`, such as 512MiB, or a percentage of what the machine or the cgroup has; at least "+
		"64MiB; GOMEMLIMIT in the environment takes precedence").Given(&o.given)
}

// load returns the size of the budget in bytes, and logs it.
func (o *memoryOption) load(log zerolog.Logger) (int64, error) {
	size, limited, err := budgetSize(o.size)
	if err != nil {
		return 0, err
	}
	source := "--memory"
	if limited {
		if o.given {
			log.Warn().Str("memory", o.size).Msg("--memory is ignored, since GOMEMLIMIT is set")
		}
		source = "GOMEMLIMIT"
	}
	log.Debug().Int64("bytes", size).Str("source", source).Msg("memory budget")
	return size, nil
}

// machineMemory returns the budget of a process that has no --memory, in bytes.
func machineMemory() int64 {
	size, _, err := budgetSize(defaultMemory)
	if err != nil {
		panic("cli: the default of --memory is not accepted")
	}
	return size
}

// budgetSize returns the size of the budget in bytes for a value of --memory, and whether
// GOMEMLIMIT has taken precedence.
func budgetSize(text string) (size int64, limited bool, err error) {
	if size, err = parseMemory(text, availableMemory); err != nil {
		return 0, false, err
	}
	if limit := goMemoryLimit(); limit > 0 {
		return min(max(limit, leastMemory), mostMemory), true, nil
	}
	return size, false, nil
}

// goMemoryLimit returns GOMEMLIMIT in bytes, as the runtime has read it; 0 if it is not set.
func goMemoryLimit() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	return 0
}

// availableMemory returns how many bytes of memory the process may have: what the machine has, or
// what its cgroup may use, if that is less. It returns 0 where the system doesn't tell.
func availableMemory() int64 {
	available := uint64(mostMemory)
	known := false
	for _, source := range []memlimit.Provider{memlimit.FromSystem, memlimit.FromCgroup} {
		if limit, err := source(); err == nil && limit > 0 { // an error also means that there is none
			available, known = min(available, limit), true
		}
	}
	if !known {
		return 0
	}
	return int64(available)
}

// parseMemory parses a value of --memory. A percentage is of what available returns.
func parseMemory(text string, available func() int64) (int64, error) {
	number, isPercentage := strings.CutSuffix(text, "%")
	if !isPercentage {
		size, err := units.RAMInBytes(text)
		switch {
		case err != nil:
			return 0, memoryError(text, "want a size or a percentage")
		case size > mostMemory:
			return 0, memoryError(text, "at most "+units.BytesSize(mostMemory)+" are possible")
		case size < leastMemory:
			return 0, memoryError(text, "at least 64MiB are needed")
		}
		return size, nil
	}
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || !(percent > 0 && percent <= 100) {
		return 0, memoryError(text, "want a percentage above 0, and at most 100")
	}
	if all := available(); all > 0 {
		return max(int64(float64(all)*percent/100), leastMemory), nil
	}
	if text == defaultMemory {
		return tunnel.DefaultMemory, nil
	}
	return 0, memoryError(text, "the system doesn't tell how much memory there is")
}

func memoryError(text, why string) error {
	return &flags.ValueError{
		Flag: "memory", Value: text, Why: why, Form: "it is a size or a percentage", Example: "512MiB",
	}
}

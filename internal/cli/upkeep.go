package cli

import (
	"context"
	"sync"

	"culvert/internal/heaptrim"
)

// upkeep fits what the process takes of the machine, memory and processors, to what it needs, until
// ctx is done. held returns how many bytes of the memory budget are in use.
func upkeep(ctx context.Context, held func() int64) {
	var running sync.WaitGroup
	running.Go(func() { heaptrim.New(held).Run(ctx) })
	running.Go(func() { followLoad(ctx) })
	running.Wait()
}

// startUpkeep starts upkeep, until stop is called.
func startUpkeep(held func() int64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		upkeep(ctx, held)
	}()
	return func() {
		cancel()
		<-ended
	}
}

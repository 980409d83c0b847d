package protocol

import (
	"context"
	"sync"
	"time"
)

func f(ctx context.Context) {
	go f(ctx) // want `protocol must not start a goroutine`
	var group sync.WaitGroup
	group.Go(func() {})          // want `protocol must not start a goroutine, as \(\*sync.WaitGroup\).Go does`
	time.AfterFunc(1, func() {}) // want `as time.AfterFunc does`
	context.AfterFunc(ctx, func() {})
	time.NewTimer(1)
}

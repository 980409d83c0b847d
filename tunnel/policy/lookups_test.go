package policy

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// TestLookupPool: a client gets places while as many are left for others, and one that becomes free
// goes to the client with the fewest, whoever has waited longer. A client that comes back has those
// that it took before. What stops waiting leaves nothing behind.
func TestLookupPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewLookupPool(4)
		errGone := errors.New("gone")
		gone, leave := context.WithCancelCause(t.Context())
		var order []string
		leaves := make(chan func(), 20)
		take := func(ctx context.Context, client string) {
			go func() {
				if done, err := pool.For(client).Take(ctx); err == nil {
					order = append(order, client)
					leaves <- done
				} else if !errors.Is(err, errGone) {
					t.Errorf("%s: %v", client, err)
				}
			}()
			synctest.Wait()
		}
		for range 5 {
			take(t.Context(), "a")
		}
		take(gone, "a")
		for _, client := range []string{"b", "b", "c", "d"} {
			take(t.Context(), client)
		}
		if want := []string{"a", "a", "b", "c"}; !slices.Equal(order, want) {
			t.Errorf("places went to %q, want %q", order, want)
		}
		leave(errGone)
		synctest.Wait()
		for len(leaves) > 0 {
			(<-leaves)()
			synctest.Wait()
		}
		if len(order) != 9 || order[4] != "d" {
			t.Errorf("places went to %q, want 9, and the fifth to d", order)
		}
		if pool.free != 4 || len(pool.waiting) != 0 || len(pool.members) != 0 {
			t.Errorf("at the end %d of 4 are free, %d wait, %d are known",
				pool.free, len(pool.waiting), len(pool.members))
		}
	})
}

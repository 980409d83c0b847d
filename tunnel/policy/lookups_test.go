package policy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestLookupPool: all clients share the places, and one that becomes free goes to the client with
// the fewest lookups, whoever has waited longer. What stops waiting leaves nothing behind.
func TestLookupPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewLookupPool(3)
		hog, other := pool.Join(10), pool.Join(1)
		errGone := errors.New("gone")
		gone, leave := context.WithCancelCause(t.Context())
		var order []string
		leaves := make(chan func(), 10)
		take := func(ctx context.Context, name string, from Lookups) {
			go func() {
				if done, err := from.Take(ctx); err == nil {
					order = append(order, name)
					leaves <- done
				} else if !errors.Is(err, errGone) {
					t.Errorf("%s: %v", name, err)
				}
			}()
			synctest.Wait()
		}
		for range 5 {
			take(t.Context(), "hog", hog)
		}
		take(gone, "gone", hog)
		take(t.Context(), "other", other)
		take(t.Context(), "other again", other) // which may have only one
		if len(order) != 3 {
			t.Errorf("%q have places of 3", order)
		}
		leave(errGone)
		synctest.Wait()
		for len(leaves) > 0 {
			(<-leaves)()
			synctest.Wait()
		}
		want := []string{"hog", "hog", "hog", "other", "hog", "hog", "other again"}
		if len(order) != len(want) || order[3] != "other" {
			t.Errorf("places went to %q, want %q in some order from the fifth", order, want)
		}
		if pool.free != 3 || len(pool.waiting) != 0 {
			t.Errorf("at the end %d of 3 are free, and %d wait", pool.free, len(pool.waiting))
		}
	})
}

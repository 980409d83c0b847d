package load

import "context"

// cold measures a transfer of the request's bytes over a new connection, from when it is dialed
// until the last byte has arrived: mb_per_s.
func cold(ctx context.Context, r Request) (Values, error) {
	took, err := transfer(ctx, r, 1)
	if err != nil {
		return nil, err
	}
	return Values{"mb_per_s": float64(r.Bytes) / took.Seconds() / 1e6}, nil
}

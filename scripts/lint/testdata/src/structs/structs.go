package structs

type few struct {
	a, b, c, d, e, f, g, h, i, j int
	k, l, m, n, o, p, q, r, s    int
	few20                        int
}

type many struct { // want `type many has 21 fields`
	a, b, c, d, e, f, g, h, i, j int
	k, l, m, n, o, p, q, r, s, t int
	few
}

// options has as many fields as the command has flags.
type options struct {
	a, b, c, d, e, f, g, h, i, j int
	k, l, m, n, o, p, q, r, s, t int
	u                            int
}

type (
	outer struct {
		inner struct { // want `type outer has 21 fields`
			a, b, c, d, e, f, g, h, i, j int
			k, l, m, n, o, p, q, r, s, t int
			u                            int
		}
	}

	// grouped has this many fields for a reason.
	grouped struct {
		a, b, c, d, e, f, g, h, i, j int
		k, l, m, n, o, p, q, r, s, t int
		u                            int
	}
)

func f() {
	type local struct { // want `type local has 21 fields`
		a, b, c, d, e, f, g, h, i, j int
		k, l, m, n, o, p, q, r, s, t int
		u                            int
	}
}

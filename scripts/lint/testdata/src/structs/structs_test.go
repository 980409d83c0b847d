package structs

type fewT struct {
	a, b, c, d, e, f, g, h, i, j int
	k, l, m, n, o, p, q, r, s    int
	few20                        int
}

type manyT struct {
	a, b, c, d, e, f, g, h, i, j int
	k, l, m, n, o, p, q, r, s, t int
	fewT
}

// options has as many fields as the command has flags.
type optionsT struct {
	a, b, c, d, e, f, g, h, i, j int
	k, l, m, n, o, p, q, r, s, t int
	u                            int
}

type (
	outerT struct {
		inner struct {
			a, b, c, d, e, f, g, h, i, j int
			k, l, m, n, o, p, q, r, s, t int
			u                            int
		}
	}

	// grouped has this many fields for a reason.
	groupedT struct {
		a, b, c, d, e, f, g, h, i, j int
		k, l, m, n, o, p, q, r, s, t int
		u                            int
	}
)

func fT() {
	type local struct {
		a, b, c, d, e, f, g, h, i, j int
		k, l, m, n, o, p, q, r, s, t int
		u                            int
	}
}

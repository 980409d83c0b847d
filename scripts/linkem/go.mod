module culvert/scripts/linkem

go 1.26.0

require (
	culvert v0.0.0
	go.uber.org/goleak v1.3.0
)

require golang.org/x/sys v0.50.0 // indirect

replace culvert => ../..

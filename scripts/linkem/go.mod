module culvert/scripts/linkem

go 1.26.0

require (
	culvert v0.0.0
	go.uber.org/goleak v1.3.0
)

require (
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace culvert => ../..

module culvert/scripts/lint

go 1.26.0

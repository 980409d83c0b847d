// Package systemd is how a node and the service manager that started it talk: sd_notify(3) and
// sd_listen_fds(3). Without such a manager, all of it does nothing. The environment is all that
// there is between the two, so it works with every manager that sets the same variables.
package systemd

// Package filelock locks files among the processes of a machine. A lock ends with the process.
package filelock

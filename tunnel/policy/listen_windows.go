package policy

import "net"

// listenPrivately binds a socket under its final name. Its folder decides who may connect.
func listenPrivately(path string) (net.Listener, error) {
	ln, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	return &unixListener{UnixListener: ln, path: path}, nil
}

package guest

import (
	"errors"
	"io"
	"net"
	"os"
)

// RelayCommand is the first argument of a program that is to Relay.
const RelayCommand = "shed-guest-relay"

// Relay joins its standard streams, which are one socket, and a TCP address: QEMU
// starts it for each connection that a guest makes to a forwarded address.
func Relay(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // both directions have ended
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, os.Stdin)
		if tcp, ok := conn.(*net.TCPConn); ok {
			err = errors.Join(err, tcp.CloseWrite())
		}
		sent <- err
	}()
	// What comes back ends the connection: QEMU's end has no half of one.
	_, err = io.Copy(os.Stdout, conn)
	return err
}

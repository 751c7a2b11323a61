package boot

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// silence is a network on which nobody answers.
type silence struct {
	net.PacketConn
	closed chan struct{}
	asked  []time.Time
}

func (s *silence) WriteTo(b []byte, _ net.Addr) (int, error) {
	s.asked = append(s.asked, time.Now())
	return len(b), nil
}

func (s *silence) ReadFrom([]byte) (int, net.Addr, error) {
	<-s.closed
	return 0, nil, net.ErrClosed
}

func (s *silence) Close() error {
	close(s.closed)
	return nil
}

// However long nobody answers, the next who could is asked soon.
func TestALeaseIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &silence{closed: make(chan struct{})}
		client, err := nclient4.NewWithConn(conn, net.HardwareAddr{2, 0, 0, 0, 0, 1}, patience...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := request(ctx, client); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		for i, at := range conn.asked[1:] {
			if waited := at.Sub(conn.asked[i]); waited > 20*time.Second || waited < dhcpTimeout {
				t.Fatalf("try %d of %d came %v after the one before", i+2, len(conn.asked), waited)
			}
		}
	})
}

package enrol

import (
	"context"
	"crypto/rand"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// A control plane that cannot be spoken to is left alone for longer each time.
func TestLostControlPlaneIsNotHammered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tries := make(chan time.Time, 1000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tries <- time.Now()
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	e := &Enroller{
		Config:      api.Config{Version: api.ConfigVersion, Machine: strings.Repeat("a", 26), ControlPlane: l.Addr().String()},
		Certificate: certificate, SPKI: spki, Log: zap.NewNop(),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	var at []time.Time
	for len(at) < 4 {
		at = append(at, <-tries)
	}
	cancel()
	<-done
	for i, first := range []time.Duration{firstBackoff, 2 * firstBackoff, 4 * firstBackoff} {
		if pause := at[i+1].Sub(at[i]); pause < first/2 {
			t.Errorf("pause %d was %s, want at least %s", i+1, pause, first/2)
		}
	}
}

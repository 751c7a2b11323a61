package client_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// A machine that is refused gets nothing of a request, neither by the transport
// nor over the dialer's connections; one that is accepted gets it.
func TestNothingIsSentToARefusedMachine(t *testing.T) {
	m, key := verifiertest.Boot(t), logtest.NewReleaseKey(t)
	shows(t, m, key)
	ek, err := keyOf(m)
	if err != nil {
		t.Fatal(err)
	}
	var got atomic.Int64
	machine := listenBeside(t, m, func() {}, func(w http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		w.WriteHeader(http.StatusNoContent)
	})
	pin := client.Pin{AK: m.TPM.AKName(), EK: ek}
	for _, accepted := range []bool{true, false} {
		if !accepted {
			m.Extend(t, 11, attest.Sum([]byte("something else")))
		}
		transport := &client.Transport{Trust: trusting(m, key), Machine: machine, Pin: pin, Lifetime: time.Minute}
		dialer := &client.Dialer{Trust: trusting(m, key), Machine: machine, Pin: &pin, Lifetime: time.Minute}
		dialed := &http.Transport{DialTLSContext: dialer.DialTLSContext}
		for name, c := range map[string]http.RoundTripper{"transport": transport, "dialer": dialed} {
			got.Store(0)
			err := post(t, c, machine)
			if sent := got.Load() == 1; sent != accepted || (err == nil) != accepted {
				t.Errorf("%s: accepted is %t, %d requests came, error %v", name, accepted, got.Load(), err)
			}
		}
		transport.Close()
		dialed.CloseIdleConnections()
	}
}

func post(t *testing.T, c http.RoundTripper, machine *url.URL) error {
	t.Helper()
	resp, err := (&http.Client{Transport: c}).Post(machine.JoinPath("secret").String(), "text/plain", strings.NewReader("secret"))
	if err == nil {
		resp.Body.Close()
	}
	return err
}

package enrol

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/orchestrator/internal/refusal"
)

// FuzzDecode holds that whatever a machine sends is taken whole or refused
// with a problem of the client's, and that nothing past the cap is read.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"machine":"a","running":true,"healthy":false}`))
	f.Add([]byte(`{"machine":"a"} {}`))
	f.Add([]byte(`[`))
	f.Add(bytes.Repeat([]byte(" "), api.MaxMessageBytes+1))
	f.Fuzz(func(t *testing.T, body []byte) {
		var beat api.Heartbeat
		err := decode(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)), &beat)
		if err == nil {
			return
		}
		if p := refusal.Of(err); p.Status < 400 || p.Status >= 500 {
			t.Errorf("%d: %s", p.Status, p.Detail)
		}
	})
}

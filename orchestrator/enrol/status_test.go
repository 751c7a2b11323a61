package enrol

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
)

// FuzzHeartbeat: a status that is taken is one of the lists'.
func FuzzHeartbeat(f *testing.F) {
	digest := strings.Repeat("a", 64)
	for _, s := range []string{
		`{"machine":"m"}`, `{"machine":"m","update":null}`, `{"update":{"release":"` + digest + `","attempt":1,"step":"done"}}`,
		`{"update":{"release":"` + digest + `","attempt":18446744073709551615,"step":"fell-back","reason":"not-started"}}`, `{"update":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var in api.Heartbeat
		if json.Unmarshal(b, &in) != nil || checkStatus(in.Update) != nil || in.Update == nil {
			return
		}
		ended := in.Update.Step == api.UpdateRefused || in.Update.Step == api.UpdateFellBack
		if in.Update.Release.IsZero() || in.Update.Attempt == 0 || ended != (in.Update.Reason != "") || len(in.Update.Step)+len(in.Update.Reason) > 64 {
			t.Errorf("taken: %+v", in.Update)
		}
	})
}

package api_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// A provider that does not answer hides none of the others, and says why.
func TestProvidersAndOfferings(t *testing.T) {
	d := newOperator(t)
	if text := d.want(http.StatusOK, "", "GET", "/v1/providers", ""); !strings.Contains(text, `"name":"memory"`) || !strings.Contains(text, `"snapshot"`) || !strings.Contains(text, `"default":true`) || !strings.Contains(text, `"settings":{`) {
		t.Errorf("%s", text)
	}
	// The memory provider of this test is never configured.
	if text := d.want(http.StatusOK, "", "GET", "/v1/offerings", ""); !strings.Contains(text, `"offerings":[]`) || !strings.Contains(text, "not configured") {
		t.Errorf("%s", text)
	}
}

func (d *operator) made(user string, s orchestrator.State) (path string) {
	d.t.Helper()
	id := orchestrator.InstanceID(d.create(user).ID)
	err := d.store.Update(d.t.Context(), func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		i.Machine, i.Created, i.Plan.DataBytes = providers.MachineID("machine of "+user), true, 32<<20
		i.Enter(s, "made", time.Now(), orchestrator.Limits{})
		return tx.Replace(&i)
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return "/v1/instances/" + string(id)
}

func TestResizeOnlyGrows(t *testing.T) {
	d := newOperator(t)
	path := d.made("amara", orchestrator.StateReady)
	if text := d.want(http.StatusAccepted, "", "POST", path+"/resize", `{"data_bytes":67108864}`); !strings.Contains(text, `"generation":2`) {
		t.Errorf("%s", text)
	}
	if text := d.want(http.StatusAccepted, "", "POST", path+"/resize", `{"data_bytes":67108864}`); !strings.Contains(text, `"generation":2`) {
		t.Errorf("the same size again is a change: %s", text)
	}
	d.want(http.StatusUnprocessableEntity, "disk-shrinks", "POST", path+"/resize", `{"data_bytes":33554432}`)
	for _, body := range []string{`{"data_bytes":1}`, `{"data_bytes":67108865}`, `{"data_bytes":"x"}`, `{}`} {
		d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "POST", path+"/resize", body)
	}
	d.want(http.StatusAccepted, "", "DELETE", path, "")
	d.want(http.StatusConflict, "instance-deleted", "POST", path+"/resize", `{"data_bytes":134217728}`)
}

func TestSnapshotsAreAskedForByTheirID(t *testing.T) {
	d := newOperator(t)
	const snapshot = "/snapshots/bbbbbbbbbbbbbbbbbbbbbbbbbb"
	waiting := "/v1/instances/" + d.create("bela").ID
	d.want(http.StatusNotFound, "no-machine", "PUT", waiting+snapshot, "")
	path := d.made("amara", orchestrator.StateReady)
	d.want(http.StatusServiceUnavailable, "provider-refused", "PUT", path+snapshot, "")
	d.want(http.StatusServiceUnavailable, "provider-refused", "DELETE", path+snapshot, "")
	d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "PUT", path+"/snapshots/x", "")
	if text := d.want(http.StatusAccepted, "", "POST", path+snapshot+"/restore", ""); !strings.Contains(text, `"state":"booting"`) {
		t.Errorf("%s", text)
	}
	d.want(http.StatusConflict, "conflict", "POST", path+"/snapshots/cccccccccccccccccccccccccc/restore", "")
}

func TestWishesAreChecked(t *testing.T) {
	d := newOperator(t)
	d.want(http.StatusUnprocessableEntity, "wish-invalid", "POST", "/v1/instances", `{"user_id":"amara","plan":"Gold!"}`)
	d.want(http.StatusUnprocessableEntity, "wish-invalid", "POST", "/v1/instances", `{"user_id":"amara","region":"../x"}`)
	d.want(http.StatusCreated, "", "POST", "/v1/instances", `{"user_id":"amara","plan":"gold","region":"eu-central-1"}`)
}

// However many ask at once, one machine is replaced, once; and its instance is not
// set back meanwhile.
func TestReplacingByManyAtOnce(t *testing.T) {
	d := newOperator(t)
	path := d.made("amara", orchestrator.StateReady)
	var asking sync.WaitGroup
	var taken, refused atomic.Int64
	for range 64 {
		asking.Go(func() {
			switch status, text := d.do("POST", path+"/replace", ""); status {
			case http.StatusAccepted:
				taken.Add(1)
			case http.StatusConflict:
				refused.Add(1)
			default:
				t.Errorf("%d: %s", status, text)
			}
		})
	}
	asking.Wait()
	if taken.Load() != 1 || refused.Load() != 63 {
		t.Errorf("%d taken, %d refused", taken.Load(), refused.Load())
	}
	d.want(http.StatusConflict, "conflict", "POST", path+"/snapshots/bbbbbbbbbbbbbbbbbbbbbbbbbb/restore", "")
	d.want(http.StatusAccepted, "", "DELETE", path, "")
	d.want(http.StatusConflict, "conflict", "POST", path+"/replace", "")
}

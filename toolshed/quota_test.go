package toolshed_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// part is the size of what fills a quota.
const part = 20_000

// What has its quota takes nothing more and names it; what is there is read,
// worked off and deleted, and that makes room.
func TestQuotas(t *testing.T) {
	const form = "application/json"
	s := serveWith(t, "kv: {quota_bytes: 400000}\nqueue: {quota_bytes: 400000}\ndata: {quota_bytes: 400000}\n")
	body := func(i int) string { return fmt.Sprintf(`{"n": %d, "text": %q}`, i, strings.Repeat("x", part)) }
	for name, add := range map[string]func(i int) (status int, text string){
		"kv": func(i int) (int, string) {
			status, text, _ := ask(t, s, "PUT", fmt.Sprintf("/api/kv/k/%d", i), body(i), "Content-Type", form)
			return status, text
		},
		"queue": func(i int) (int, string) {
			status, text, _ := ask(t, s, "POST", "/api/queue/q", body(i), "Content-Type", form)
			return status, text
		},
		"data": func(i int) (int, string) {
			status, text, _ := ask(t, s, "PUT", fmt.Sprintf("/api/data/collections/c/documents/%d", i), body(i), "Content-Type", form)
			return status, text
		},
	} {
		t.Run(name, func(t *testing.T) {
			fits := 0
			for ; ; fits++ {
				status, text := add(fits)
				if status == 507 {
					var p struct{ Code, Detail string }
					if err := json.Unmarshal([]byte(text), &p); err != nil || p.Code != "quota" || !strings.Contains(p.Detail, name+".quota_bytes is 400000") {
						t.Errorf("refused as %s", text)
					}
					break
				}
				if status >= 300 || fits*part > 400_000 {
					t.Fatalf("the %d.: %d %s", fits, status, text)
				}
			}
			if fits < 10 {
				t.Errorf("%d fit", fits)
			}
			makeRoom(t, s, name)
			if status, text := add(fits); status >= 300 {
				t.Errorf("after making room: %d %s", status, text)
			}
			if _, text, _ := ask(t, s, "GET", "/", ""); !strings.Contains(text, "of 390.6 KiB") {
				t.Errorf("the home page: %s", text)
			}
		})
	}
	if status, text, _ := ask(t, s, "PUT", "/api/cron/c?queue=q&schedule=0+3+*+*+*", strings.Repeat("x", 500_000)); status != 507 || !strings.Contains(text, "queue.quota_bytes") {
		t.Errorf("a schedule: %d %s", status, text)
	}
}

// makeRoom reads two of what is there, and deletes them.
func makeRoom(t *testing.T, s, name string) {
	t.Helper()
	if name == "queue" {
		_, text, _ := ask(t, s, "POST", "/api/queue/q/receive?max=2", "")
		var got struct {
			Messages []struct{ ID, Receipt string }
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Messages) != 2 {
			t.Fatalf("received %s", text)
		}
		for _, m := range got.Messages {
			if status, text, _ := ask(t, s, "POST", "/api/queue/q/messages/"+m.ID+"/ack?receipt="+m.Receipt, ""); status != 204 {
				t.Errorf("%d %s", status, text)
			}
		}
		return
	}
	for i := range 2 {
		path := fmt.Sprintf(map[string]string{"kv": "/api/kv/k/%d", "data": "/api/data/collections/c/documents/%d"}[name], i)
		if status, text, _ := ask(t, s, "GET", path, ""); status != 200 || !strings.Contains(text, strings.Repeat("x", part)) {
			t.Errorf("%s: %d", path, status)
		}
		if status, text, _ := ask(t, s, "DELETE", path, ""); status != 204 && status != 200 {
			t.Errorf("%d %s", status, text)
		}
	}
}

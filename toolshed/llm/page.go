package llm

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed page.html
var pageText string

var chatPage = page.New("Chat", "", pageText)

// turn is one message of a conversation on the page.
type turn struct {
	Role Role   `json:"role"`
	Text string `json:"text"`
}

// chatShown is what the page shows. The conversation is in the page alone: it
// goes to and fro with each message, and nothing of it is kept here.
type chatShown struct {
	Model, Message, Error string
	Aliases               []string
	Turns                 []turn
	// History is Turns for the form.
	History string
	Cost    float64
}

// maxConversation bounds what a page sends back.
const maxConversation = 1 << 20

// registerPage puts the page for people on an API's place.
func (h handlers) registerPage(m *mount.Mount) {
	m.Page("/llm", ScopeChat, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { h.show(w, http.StatusOK, chatShown{}) }))
	m.Handle("POST /llm", mount.Route{
		Scope: ScopeChat, Lasting: true, BodyBytes: 2 * maxConversation, Accepts: []string{"application/x-www-form-urlencoded"},
	}, http.HandlerFunc(h.say))
}

func (h handlers) show(w http.ResponseWriter, status int, d chatShown) {
	for name := range h.service.router.Aliases {
		d.Aliases = append(d.Aliases, name)
	}
	history, err := json.Marshal(d.Turns)
	if err == nil {
		d.History = string(history)
		err = chatPage.Write(w, status, d)
	}
	if err != nil {
		problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
	}
}

// say answers one message of the conversation.
func (h handlers) say(w http.ResponseWriter, r *http.Request) {
	d := chatShown{Model: strings.TrimSpace(r.PostFormValue("model")), Message: strings.TrimSpace(r.PostFormValue("message"))}
	if history := r.PostFormValue("history"); len(history) > maxConversation || json.Unmarshal([]byte(history), &d.Turns) != nil {
		d.Error, d.Turns = "The conversation did not arrive whole.", nil
		h.show(w, http.StatusUnprocessableEntity, d)
		return
	}
	turns := append(d.Turns, turn{Role: User, Text: d.Message})
	req := Request{Model: d.Model}
	for _, t := range turns {
		req.Messages = append(req.Messages, Message{Role: t.Role, Parts: []Part{{Text: t.Text}}})
	}
	said, err := h.service.Chat(r.Context(), req, 0, nil)
	if err != nil {
		p := problemOf(err)
		d.Error = p.Detail
		h.show(w, p.Status, d)
		return
	}
	d.Turns, d.Message, d.Cost = append(turns, turn{Role: Assistant, Text: said.Text}), "", float64(said.Cost)/1e6
	h.show(w, http.StatusOK, d)
}

package llm

// completion is an answer, and chunk a part of one, in OpenAI's form.
type completion struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   *completionUsage   `json:"usage,omitempty"`
}

type completionChoice struct {
	Index        int                `json:"index"`
	Message      *completionMessage `json:"message,omitempty"`
	Delta        *completionMessage `json:"delta,omitempty"`
	FinishReason *Finish            `json:"finish_reason"`
}

type completionMessage struct {
	Role      string           `json:"role,omitempty"`
	Content   *string          `json:"content,omitempty"`
	Reasoning string           `json:"reasoning_content,omitempty"`
	ToolCalls []completionCall `json:"tool_calls,omitempty"`
}

type completionCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type completionUsage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
}

func usageOf(u Usage) *completionUsage {
	return &completionUsage{Prompt: u.Input, Completion: u.Output, Total: u.Input + u.Output}
}

// whole is a finished answer's choice.
func whole(a *Answer) completionChoice {
	message := &completionMessage{Role: string(Assistant), Content: &a.Text, Reasoning: a.Reasoning}
	for _, c := range a.ToolCalls {
		call := completionCall{ID: c.ID, Type: "function"}
		call.Function.Name, call.Function.Arguments = c.Name, c.Arguments
		message.ToolCalls = append(message.ToolCalls, call)
	}
	if len(a.ToolCalls) > 0 && a.Text == "" {
		message.Content = nil
	}
	return completionChoice{Message: message, FinishReason: &a.Finish}
}

// part is an event's choice; ok is false for one that has none.
func part(e Event) (choice completionChoice, ok bool) {
	delta := &completionMessage{Reasoning: e.Reasoning}
	switch {
	case e.Finish != "":
		return completionChoice{Delta: delta, FinishReason: &e.Finish}, true
	case e.Text != "":
		delta.Content = &e.Text
	case e.Tool != nil:
		call := completionCall{Index: &e.Tool.Index, ID: e.Tool.ID}
		if e.Tool.ID != "" {
			call.Type = "function"
		}
		call.Function.Name, call.Function.Arguments = e.Tool.Name, e.Tool.Arguments
		delta.ToolCalls = []completionCall{call}
	case e.Reasoning == "":
		return choice, false
	}
	return completionChoice{Delta: delta}, true
}

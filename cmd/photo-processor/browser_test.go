package main_test

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// pageTimeout bounds each step in the browser.
const pageTimeout = 15 * time.Second

// findBrowser returns the path of Chromium. Without one the test is skipped:
// not every system has a package of it.
func findBrowser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("PATH has no chromium, chromium-browser or google-chrome")
	return ""
}

// browser is a headless Chromium with a profile of its own.
type browser struct {
	ctx context.Context

	mu       sync.Mutex
	problems []string // exceptions, console errors, CSP violations
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(findBrowser(t)), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1200, 800))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return &browser{ctx: ctx}
}

// listen collects what the page must not cause. Failed requests are no
// problem: the test provokes them.
func (b *browser) listen(event any) {
	problem := ""
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		problem = "exception: " + event.ExceptionDetails.Text
		if event.ExceptionDetails.Exception != nil {
			problem += " " + event.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		problem = fmt.Sprintf("console.%s", event.Type)
		for _, arg := range event.Args {
			problem += " " + string(arg.Value) + arg.Description
		}
	case *log.EventEntryAdded:
		if event.Entry.Source != "network" && event.Entry.Level != log.EntryLevelVerbose {
			problem = fmt.Sprintf("%s %s: %s", event.Entry.Source, event.Entry.Level, event.Entry.Text)
		}
	}
	if problem != "" {
		b.mu.Lock()
		b.problems = append(b.problems, problem)
		b.mu.Unlock()
	}
}

func (b *browser) requireNoProblems(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.problems)
}

// tab is a tab of the browser. Its methods fail the test after pageTimeout.
type tab struct {
	ctx   context.Context
	close context.CancelFunc
}

// open opens a new tab in the foreground. Tabs in the background load no lazy
// pictures.
func (b *browser) open(t *testing.T, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithListener(b.listen))
	t.Cleanup(cancel)
	p := &tab{ctx: ctx, close: cancel}
	require.NoError(t, chromedp.Do(ctx)) // the tab outlives the timeout of a step
	p.do(t, chromedp.Navigate(url))
	return p
}

func (p *tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("%v; the page shows:\n%s", err, p.text())
	}
}

func (p *tab) click(t *testing.T, selector string) {
	t.Helper()
	p.do(t, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

func (p *tab) sendKeys(t *testing.T, selector, text string) {
	t.Helper()
	p.do(t, chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// wait waits until a JavaScript expression is true.
func (p *tab) wait(t *testing.T, expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout+time.Second)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression,
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(pageTimeout)))
	if err != nil {
		t.Fatalf("%s: %v; the page shows:\n%s", expression, err, p.text())
	}
}

// waitText waits until the element that the selector finds is shown and has
// the text.
func (p *tab) waitText(t *testing.T, selector, text string) {
	t.Helper()
	p.wait(t, fmt.Sprintf(`(() => { const el = document.querySelector(%q); return el?.checkVisibility() && el.textContent.includes(%q); })()`, selector, text))
}

func (p *tab) text() string {
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	if err != nil {
		return err.Error()
	}
	return text
}

// evaluate returns the value of a JavaScript expression.
func evaluate[T any](t *testing.T, p *tab, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(t, err, expression)
	return value
}

package main_test

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"image"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.n16f.net/thumbhash"
)

var screenshots = flag.String("screenshots", "", "directory in which TestPageScreenshots stores pictures of the page")

// TestPage uses the page at / with a browser, as a user does.
func TestPage(t *testing.T) {
	b := startBrowser(t)
	s := startPageStack(t)
	p := b.open(t, s.api)
	p.wait(t, `document.getElementById("connection").dataset.state === "live"`)
	evaluate[bool](t, p, `window.notReloaded = true`)
	batch := ""
	step := func(name string, test func(t *testing.T)) { // which needs the steps before it
		if !t.Run(name, test) {
			t.FailNow()
		}
	}

	step("photos are added and completed", func(t *testing.T) {
		addByForm(t, p, s.source+"/1/harbour.jpg", s.source+"/2/forest.jpg")
		batch = newBatch(t, p, batch)
		waitBatch(t, p, batch, "2 of 2 done")
		waitCompleted(t, p, "harbour.jpg")
		waitCompleted(t, p, "forest.jpg")
	})
	step("all pending photos are processed", func(t *testing.T) {
		p.waitText(t, "#process-pending", "Process all pending (6)")
		p.click(t, "#process-pending")
		batch = newBatch(t, p, batch)
		waitBatch(t, p, batch, "6 of 6 done, 1 failed")
		p.wait(t, `document.getElementById("process-pending").hidden`)
		p.waitText(t, `.batch[data-batch="`+batch+`"] .failures`, "source_forbidden 1")
	})
	step("a photo's detail", func(t *testing.T) {
		clickCard(t, p, "harbour.jpg")
		p.waitText(t, "#detail-status", "Completed")
		p.wait(t, `document.querySelectorAll("#detail-thumbnails img").length === 2`)
		p.wait(t, `[...document.querySelectorAll("#detail-thumbnails img")].every((image) => image.naturalWidth > 0)`)
		p.waitText(t, "#detail-url", s.source+"/1/harbour.jpg")
		p.wait(t, `document.getElementById("detail-workflow").checkVisibility()`)
		link := evaluate[string](t, p, `document.getElementById("detail-workflow").href`)
		require.Contains(t, link, "/namespaces/default/workflows/process-photo-")
		status, _ := get(t, link)
		require.Equal(t, http.StatusOK, status)
		p.click(t, "#detail-close")
		p.wait(t, detailClosed)
	})
	step("a photo is deleted", func(t *testing.T) {
		addByForm(t, p, s.source+"/9/gone.jpg")
		p.waitText(t, "#detail[open] #detail-name", "gone.jpg")
		p.waitText(t, "#detail-status", "Completed")
		evaluate[bool](t, p, `window.confirm = () => false, true`)
		p.click(t, "#detail-delete")
		evaluate[bool](t, p, `window.confirm = () => true, true`)
		p.wait(t, `document.getElementById("detail").open`)
		p.click(t, "#detail-delete")
		p.wait(t, `!document.getElementById("detail").open && !(`+card("gone.jpg")+`)`)
	})
	step("a failed photo is processed again", func(t *testing.T) {
		addByForm(t, p, s.source+"/locked/3/castle.jpg")
		p.waitText(t, "#detail[open] #detail-name", "castle.jpg")
		p.waitText(t, "#detail-code", "source_forbidden")
		p.waitText(t, "#detail-failure-message", "the source answered 403 Forbidden")
		p.waitText(t, "#detail-advice", "The source denies access")
		s.allowed.Store(true)
		p.click(t, "#detail-process")
		p.waitText(t, "#detail-status", "Completed")
		p.wait(t, `document.getElementById("detail-failure").hidden`)
		p.wait(t, `document.querySelector("#detail-thumbnails img")?.naturalWidth > 0`)
		p.do(t, chromedp.KeyEvent(kb.Escape))
		p.wait(t, detailClosed) // otherwise Back may leave the history entry of the open detail
		waitCompleted(t, p, "castle.jpg")
		p.do(t, chromedp.NavigateBack())
		p.waitText(t, "#detail[open] #detail-name", "castle.jpg")
		p.click(t, "#detail-close")
	})
	step("filters, and failed photos are retried", func(t *testing.T) {
		s.allowed.Store(false)
		addByForm(t, p, s.source+"/locked/4/a.jpg", s.source+"/locked/5/b.jpg", s.source+"/locked/6/c.jpg")
		batch = newBatch(t, p, batch)
		waitBatch(t, p, batch, "3 of 3 done, 3 failed")
		addByForm(t, p, s.source+"/nonsense/not-found.jpg")
		p.waitText(t, "#detail-code", "source_not_found")
		p.do(t, chromedp.KeyEvent(kb.Escape))
		p.wait(t, detailClosed)

		p.click(t, "#filter-failed")
		p.waitText(t, "#shown", "5")
		p.wait(t, `[...document.querySelectorAll(".card")].every((card) => card.dataset.status === "failed")`)
		p.click(t, "#code-source_forbidden")
		p.waitText(t, "#shown", "4")
		p.wait(t, `[...document.querySelectorAll(".card code")].every((code) => code.textContent === "source_forbidden")`)
		require.Equal(t, "#status=failed&code=source_forbidden", evaluate[string](t, p, `location.hash`))

		s.allowed.Store(true)
		p.waitText(t, "#retry-failed", "Retry source_forbidden (4)")
		p.click(t, "#retry-failed")
		batch = newBatch(t, p, batch)
		waitBatch(t, p, batch, "4 of 4 done, 1 failed")
		p.wait(t, `document.querySelectorAll(".card").length === 1`) // the others no longer match
		p.click(t, "#code-source_forbidden")
		p.waitText(t, "#shown", "2")
		p.waitText(t, "#retry-failed", "Retry failed (2)")
		p.click(t, "#filter-completed")
		p.waitText(t, "#shown", "11")
		p.click(t, "#filter-pending")
		p.waitText(t, "#empty-text", "No photo is pending.")
		p.click(t, "#empty-action")
		p.waitText(t, "#shown", "13")
		waitCompleted(t, p, "a.jpg")
	})
	step("a URL with HTML is text", func(t *testing.T) {
		const name = "<img src=x onerror=window.hacked=1>.jpg"
		addByForm(t, p, s.source+"/7/"+name)
		p.waitText(t, "#detail[open] #detail-name", name)
		p.waitText(t, "#detail-status", "Completed")
		p.do(t, chromedp.KeyEvent(kb.Escape))
		p.wait(t, detailClosed)
		waitCompleted(t, p, name)
		require.True(t, evaluate[bool](t, p, `window.hacked === undefined && document.querySelector("img[src=x]") === null`))
	})
	step("an invalid URL is refused", func(t *testing.T) {
		addByForm(t, p, s.source+"/8/well.jpg", "nonsense")
		p.waitText(t, "#add-error", "Photo 2")
		require.Equal(t, "nonsense", evaluate[string](t, p, `getSelection().toString()`))
		evaluate[bool](t, p, `document.getElementById("add-urls").value = "", true`)
	})
	step("keyboard", func(t *testing.T) {
		p.wait(t, `!document.getElementById("detail").open`)
		evaluate[bool](t, p, `document.getElementById("filter-failed").focus(), true`)
		for range 60 {
			if evaluate[bool](t, p, `document.activeElement.matches(".card")`) {
				break
			}
			p.do(t, chromedp.KeyEvent(kb.Tab))
		}
		focused := evaluate[string](t, p, `document.activeElement.dataset.uuid ?? ""`)
		require.NotEmpty(t, focused)
		p.do(t, chromedp.KeyEvent(kb.Enter))
		p.waitText(t, "#detail[open] #detail-uuid", focused)
		p.do(t, chromedp.KeyEvent(kb.Escape))
		p.wait(t, `!document.getElementById("detail").open`)
		p.wait(t, fmt.Sprintf(`document.activeElement.dataset.uuid === %q`, focused))
	})
	step("the API restarts", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), s.variable(t, "DATABASE_URL"))
		require.NoError(t, err)
		defer conn.Close(t.Context())
		s.mustDev(t, "stop", "api")
		p.wait(t, `document.getElementById("connection").dataset.state === "offline"`)
		p.waitText(t, "#offline", "The connection is lost")
		_, err = conn.Exec(t.Context(), `INSERT INTO photos (url) VALUES ($1)`, s.source+"/9/meanwhile.jpg")
		require.NoError(t, err)
		s.mustDev(t, "start", "api")
		p.wait(t, `document.getElementById("connection").dataset.state === "live" && document.getElementById("offline").hidden`)
		p.wait(t, card("meanwhile.jpg")+`?.dataset.status === "pending"`)
		p.waitText(t, "#process-pending", "Process all pending (1)")
		p.click(t, "#process-pending")
		waitCompleted(t, p, "meanwhile.jpg")
	})
	require.True(t, evaluate[bool](t, p, `window.notReloaded === true`))
	p.close()

	step("behind a path prefix", func(t *testing.T) {
		target, err := url.Parse(s.api)
		require.NoError(t, err)
		proxy := httptest.NewServer(http.StripPrefix("/pp", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		}}))
		t.Cleanup(proxy.Close)
		p := b.open(t, proxy.URL+"/pp/")
		defer p.close()
		waitCompleted(t, p, "harbour.jpg")
		addByForm(t, p, s.source+"/10/e.jpg", s.source+"/11/f.jpg")
		waitCompleted(t, p, "e.jpg")
		waitCompleted(t, p, "f.jpg")
	})
	step("with a token", func(t *testing.T) {
		const token = "a-token-that-is-long-enough"
		api := s.startAPI(t, "API_TOKEN="+token)
		p := b.open(t, api)
		defer p.close()
		p.wait(t, `document.getElementById("token").open`)
		p.sendKeys(t, "#token-input", "another-token-of-this-length"+kb.Enter)
		p.waitText(t, "#token-error", "The API refused this token")
		p.sendKeys(t, "#token-input", token+kb.Enter)
		waitCompleted(t, p, "harbour.jpg")
		require.True(t, evaluate[bool](t, p, card("harbour.jpg")+`.querySelector("img").src.startsWith("blob:")`))
		p.wait(t, `document.getElementById("connection").dataset.state === "live"`)
		addByForm(t, p, s.source+"/12/g.jpg", s.source+"/13/h.jpg")
		waitCompleted(t, p, "h.jpg")

		// A thumbnail that takes long has its placeholder meanwhile.
		evaluate[bool](t, p, `(() => {
			const usual = window.fetch;
			const released = new Promise((resolve) => { window.release = resolve; });
			window.fetch = (path, options) => path.startsWith("thumbnails/") ? released.then(() => usual(path, options)) : usual(path, options);
			return true;
		})()`)
		addByForm(t, p, s.source+"/14/i.jpg")
		image := card("i.jpg") + `?.querySelector("img")`
		p.wait(t, image+`?.style.backgroundImage.startsWith('url("data:image/png;')`)
		require.Zero(t, evaluate[int](t, p, image+`.naturalWidth`))
		evaluate[bool](t, p, `window.release() ?? true`)
		waitCompleted(t, p, "i.jpg")
		p.wait(t, image+`.style.backgroundImage === ""`)

		p.do(t, chromedp.Reload())
		waitCompleted(t, p, "harbour.jpg")
		require.False(t, evaluate[bool](t, p, `document.getElementById("token").open`))

		second := b.open(t, api)
		defer second.close()
		second.wait(t, `document.getElementById("token").open`)
		require.Zero(t, evaluate[int](t, second, `document.querySelectorAll(".card").length`))
		// Without a token the page shows why there are no photos.
		second.do(t, chromedp.KeyEvent(kb.Escape))
		second.waitText(t, "#list-error", "This API needs a token.")
		second.click(t, "#more")
		second.sendKeys(t, "#token-input", token+kb.Enter)
		waitCompleted(t, second, "harbour.jpg")
	})
	step("placeholders are decoded as by other programs", func(t *testing.T) {
		p := b.open(t, s.api)
		defer p.close()
		p.wait(t, `typeof placeholderImage === "function"`)
		for name, picture := range map[string]image.Image{
			"landscape":   gradient(64, 40, 255),
			"portrait":    gradient(30, 64, 255),
			"square":      gradient(50, 50, 255),
			"translucent": gradient(64, 40, 100),
		} {
			hash := thumbhash.EncodeImage(picture)
			want, err := thumbhash.DecodeImage(hash)
			require.NoError(t, err)
			got := evaluate[struct {
				Width, Height int
				Pixels        []uint8
			}](t, p, fmt.Sprintf(`(({ width, height, data }) => ({ width, height, pixels: [...data] }))(placeholderImage(%q))`, base64.StdEncoding.EncodeToString(hash)))
			require.Equal(t, want.Bounds().Size(), image.Pt(got.Width, got.Height), name)
			for i, value := range want.(*image.RGBA).Pix { // which are multiplied by alpha
				shown := float64(got.Pixels[i])
				if i%4 < 3 {
					shown *= float64(got.Pixels[i|3]) / 255
				}
				require.InDelta(t, value, shown, 2, "%s: value %d", name, i)
			}
		}
	})
	b.requireNoProblems(t)
}

// TestPageScreenshots takes pictures of the page. README.md shows page.jpg.
func TestPageScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("-screenshots is not set")
	}
	b := startBrowser(t)
	s := startPageStack(t)
	s.mustDev(t, "db-schema")
	p := b.open(t, s.api)
	shoot := func(name string) {
		ctx, cancel := context.WithTimeout(p.ctx, pageTimeout)
		defer cancel()
		quality := int64(85)
		picture, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: "jpeg", Quality: &quality})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(*screenshots, name+".jpg"), picture.Data, 0o644))
	}
	viewport := func(width, height int64) { p.do(t, chromedp.EmulateViewport(width, height)) }
	viewport(1200, 800)
	p.click(t, "#process-pending")
	batch := newBatch(t, p, "")
	waitBatch(t, p, batch, "6 of 6 done, 1 failed")
	urls := []string{s.source + "/locked/1/private.jpg", s.source + "/nonsense/lost.jpg"}
	for i, name := range []string{"fjord", "valley", "ridge", "dawn", "shore", "pines", "moor", "summit"} {
		urls = append(urls, fmt.Sprintf("%s/%d/%s.jpg", s.source, 31+i, name))
	}
	addByForm(t, p, urls...)
	batch = newBatch(t, p, batch)
	waitBatch(t, p, batch, "10 of 10 done, 2 failed")
	p.click(t, "#add > summary")
	loaded := `[...document.querySelectorAll(".card[data-status=completed]")].every((card) => !card.checkVisibility({ contentVisibilityAuto: true }) || card.querySelector("img")?.complete)`
	waitCompleted(t, p, "fjord.jpg")
	p.do(t, chromedp.Reload())
	waitCompleted(t, p, "fjord.jpg")
	p.wait(t, `scrollTo(0, 0), true`)
	p.wait(t, loaded)
	shoot("page")
	p.click(t, "#filter-failed")
	p.waitText(t, "#shown", "3")
	shoot("failed")
	clickCard(t, p, "private.jpg")
	p.waitText(t, "#detail-code", "source_forbidden")
	shoot("detail-failed")
	p.do(t, chromedp.KeyEvent(kb.Escape))
	p.click(t, "#filter-all")
	clickCard(t, p, "fjord.jpg")
	p.wait(t, `document.querySelector("#detail-thumbnails img")?.naturalWidth > 0`)
	shoot("detail")
	p.do(t, chromedp.KeyEvent(kb.Escape))
	viewport(390, 844)
	p.wait(t, `scrollTo(0, 0), true`)
	p.wait(t, loaded)
	shoot("phone")
	clickCard(t, p, "ridge.jpg")
	p.wait(t, `document.querySelector("#detail-thumbnails img")?.naturalWidth > 0`)
	shoot("phone-detail")
	p.do(t, chromedp.KeyEvent(kb.Escape))
	viewport(1200, 800)
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	})
	require.NoError(t, err)
	p.wait(t, `scrollTo(0, 0), true`)
	p.wait(t, loaded)
	shoot("dark")
	s.mustDev(t, "stop", "api")
	p.waitText(t, "#offline", "The connection is lost")
	p.click(t, "#add > summary")
	shoot("offline")
}

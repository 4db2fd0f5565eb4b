//go:build integration

package browser

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/server"
)

// harbour is a control plane that scans the images of a registry, and a browser that looks at it.
type harbour struct {
	*window
	*plane
	hub       hub
	database  string
	downloads string
}

func moor(t *testing.T, list []advisory) *harbour {
	t.Helper()
	hub := openHub(t)
	dir := t.TempDir()
	h := &harbour{hub: hub, database: filepath.Join(dir, "vulnerabilities.db"), downloads: t.TempDir()}
	if list != nil {
		database(t, h.database, list)
	}
	h.plane = serveImages(t, dir, "", server.ImageOptions{Database: h.database, PlainHTTP: []string{hub.host}, Look: 20 * time.Millisecond})
	h.window = open(t, h.plane)
	h.do("keep downloads", tell(browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: h.downloads}))
	return h
}

// size is of the window; pictures are of a window that is high enough for the whole page.
func (w *window) size(width, height int64) {
	w.t.Helper()
	w.do("size", tell(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1}))
}

// widths keeps pictures in both themes, at 1280 and 1920 wide.
func (w *window) widths(name string, height int64) {
	w.t.Helper()
	for _, width := range []int64{1920, 1280} {
		w.size(width, height)
		w.themes(fmt.Sprintf("%s-%d", name, width))
	}
	w.size(1280, 900)
}

func chip(name string) string {
	return fmt.Sprintf(`//button[@aria-pressed][contains(normalize-space(), %q)]`, name)
}

func tab(name string) string {
	return fmt.Sprintf(`//button[@role="tab"][starts-with(normalize-space(), %q)]`, name)
}

func (w *window) scan(reference string) {
	w.t.Helper()
	w.fill("wanted", reference)
	w.press(kb.Enter)
	w.holds(reference+" is scanned", fmt.Sprintf(`document.querySelector('[data-scan=%q]')?.innerText.includes("✓ scanned")`, reference))
	w.holds("it is listed", fmt.Sprintf(`document.querySelector('[data-image=%q]')`, reference))
}

func (w *window) rows(selector string, want int) {
	w.t.Helper()
	w.holds(fmt.Sprintf("%d of %s", want, selector), fmt.Sprintf(`document.querySelectorAll(%q).length === %d`, selector, want))
}

// TestImages is one sitting with two versions of a shop and a web server: each part goes on where the one before ended.
func TestImages(t *testing.T) {
	one, two := shops(t)
	list := append(slices.Clone(advisories), many(t, one)...)
	h := moor(t, list[:len(list)-40])
	var v1, v2, digest string
	for _, part := range []struct {
		name string
		do   func()
	}{
		{"sign in where one wanted to be", func() { h.trySignInAt("/images") }},
		{"nothing there yet", h.tryNoImages},
		{"a scan that fails", h.tryFailing},
		{"scans", func() {
			v1, digest = h.hub.push("team/shop:v1", one)
			v2, _ = h.hub.push("team/shop:v2", two)
			web, _ := h.hub.push("library/busybox:1", fromLab(h.t, "busybox"))
			h.scan(v1)
			h.scan(v2)
			h.scan(web)
		}},
		{"the database changes", func() { h.tryNews(v1, digest, list) }},
		{"list", func() { h.tryList(v1) }},
		{"export of the list", h.tryExport},
		{"image", func() { h.tryImage(v1) }},
		{"vulnerabilities", func() { h.tryVulnerabilities(v1) }},
		{"findings, packages, layers", h.tryTabs},
		{"difference", func() { h.tryDifference(v1, v2) }},
		{"pages that are not there", h.tryNowhere},
		{"server away", h.tryImagesAway},
	} {
		if !t.Run(part.name, func(t *testing.T) { h.t = t; part.do(); h.clean() }) {
			return
		}
	}
}

func (h *harbour) trySignInAt(path string) {
	h.visit(h.URL + path)
	h.says("Sign in")
	h.signIn(h.plane, h.password)
	h.holds("the page that was wanted", `document.querySelector('h1')?.innerText.startsWith("Images") && document.title === "Images · Bulkhead"`)
}

func (h *harbour) tryNoImages() {
	h.says("No image was scanned yet.")
	h.says("bulkhead images watch")
	h.says("Vulnerability database of")
	h.accessible("images, none")
	h.widths("images-none", 700)
}

func (h *harbour) tryFailing() {
	h.fill("wanted", h.hub.host+"/team/nobody:v9")
	h.press(kb.Enter)
	h.says("✗ failed")
	h.shot("images-failed")
	h.fill("wanted", "UPPER CASE:x:y")
	h.press(kb.Enter)
	h.holds("it says what is wrong", `document.querySelector('[role=alert]')?.innerText.length > 10`)
	h.holds("what was typed is kept", `document.getElementsByName("wanted")[0].value === "UPPER CASE:x:y"`)
	h.click(`//button[@aria-label="Put away"]`)
	h.clean("400")
}

// tryNews has the database know more, and a node run an image.
func (h *harbour) tryNews(v1, digest string, list []advisory) {
	database(h.t, h.database, list)
	report := ordinary()
	for i := range 3 {
		w := workload(fmt.Sprintf("shop/deployment/web-%d/php", i), v1, pb.Mode(i+1), .97, "")
		w.Workload.Digest = digest
		report.Workloads = append(report.Workloads, w)
	}
	join(h.t, h.dir, report)
	eventually(h.t, "the list has news", func() bool {
		h.visit(h.URL + "/images")
		h.rows("[data-image]", 3)
		return h.value(fmt.Sprintf(`document.querySelector('[data-image=%q]').innerText.includes("new")`, v1)) == "true"
	})
}

func (h *harbour) tryList(v1 string) {
	row := fmt.Sprintf(`document.querySelector('[data-image=%q]')`, v1)
	h.holds("it is running", row+`.innerText.includes("3 workloads")`)
	for _, text := range []string{"1 web shell", "secret", "settings"} {
		h.holds("it says "+text, row+fmt.Sprintf(`.innerText.includes(%q)`, text))
	}
	h.holds("the most urgent is first", fmt.Sprintf(`document.querySelector('[data-image]').dataset.image === %q`, v1))
	h.accessible("images")
	h.widths("images", 700)
	h.press("/")
	h.press("shop:v2")
	h.rows("[data-image]", 1)
	h.fill("search", "nothing of the kind")
	h.says("No image fits.")
	h.click(button("Show all images"))
	h.rows("[data-image]", 3)
	h.click(chip("Web shell"))
	h.rows("[data-image]", 1)
	h.click(chip("Running"))
	h.rows("[data-image]", 1)
	h.holds("it is in the address", `location.search === "?having=webshell%2Crunning"`)
	h.do("look again", chromedp.Reload())
	h.rows("[data-image]", 1)
	h.rows(".chips [aria-pressed=true]", 2)
	h.shot("images-chosen")
	h.click(chip("Web shell"))
	h.click(chip("Running"))
	h.rows("[data-image]", 3)
	h.value(`(() => { const s = document.querySelector('select'); s.value = "reference"; s.dispatchEvent(new Event("change", {bubbles: true})); })()`)
	h.holds("sorted by name", `document.querySelector('[data-image]').dataset.image.includes("library/busybox")`)
	h.holds("the command says the same", `document.querySelector('.export code').innerText === "bulkhead images list --sort reference"`)
}

func (h *harbour) tryExport() {
	h.click(button("CSV"))
	rows, err := csv.NewReader(strings.NewReader(h.download("bulkhead-images.csv"))).ReadAll()
	if err != nil || len(rows) != 4 || rows[0][0] != "image" {
		h.t.Error(err, rows)
	}
	h.click(button("JSON"))
	var list []struct {
		Reference       string
		Vulnerabilities map[string]int
	}
	if err := json.Unmarshal([]byte(h.download("bulkhead-images.json")), &list); err != nil || len(list) != 3 || list[0].Reference != rows[1][0] {
		h.t.Error(err, list)
	}
}

func (h *harbour) download(name string) string {
	h.t.Helper()
	var text []byte
	eventually(h.t, name+" is there", func() bool {
		var err error
		text, err = os.ReadFile(filepath.Join(h.downloads, name))
		return err == nil
	})
	return string(text)
}

func (h *harbour) tryImage(v1 string) {
	h.click(fmt.Sprintf(`//tr[@data-image=%q]//a`, v1))
	h.says("What to fix first")
	h.holds("the focus is where the page begins", `document.activeElement === document.querySelector('h1')`)
	h.says("Remove the web shell var/www/html/uploads/thumb.php")
	h.says("Build on a newer base image")
	h.says("exploited in the wild")
	h.says("shop/deployment/web-0/php")
	h.says("base image")
	h.accessible("image")
	h.widths("image", 1750)
	h.click(`//button[contains(., "Remove the web shell")]`)
	h.rows("[data-finding]", 1)
	h.holds("where it was is in the address", `location.search.includes("tab=findings")`)
	h.value(`history.back()`)
	h.rows("[data-image]", 3)
}

func (h *harbour) tryVulnerabilities(v1 string) {
	h.visit(h.URL + "/images/image?ref=" + v1)
	h.holds("rows are there", `document.querySelectorAll('[data-vulnerability]').length > 10`)
	h.holds("only what is seen is drawn", `document.querySelectorAll('[data-row]').length < 100 && Number(document.querySelector('table[aria-rowcount]').getAttribute('aria-rowcount')) > 200`)
	h.holds("the exploited come first", `document.querySelector('[data-row="0"]').innerText.includes("exploited")`)
	h.do("focus the first", chromedp.Focus(`//tr[@data-row="0"]//button`))
	h.press(kb.ArrowDown)
	h.holds("the second row", `document.activeElement.closest("tr")?.dataset.row === "1"`)
	h.press(kb.End)
	h.holds("the last row", `Number(document.activeElement.closest("tr")?.dataset.row) + 2 === Number(document.querySelector('table[aria-rowcount]').getAttribute('aria-rowcount'))`)
	h.press(kb.Home)
	h.holds("the first row", `document.activeElement.closest("tr")?.dataset.row === "0"`)
	h.press(kb.Enter)
	h.says("Brought by")
	h.holds("a drawer", `document.querySelector('dialog[open]')?.innerText.includes("Upgrade")`)
	h.accessible("vulnerability")
	h.widths("vulnerability", 900)
	h.holds("links of feeds are those of the web only", `[...document.querySelectorAll('dialog a')].every(a => a.protocol === "https:" && a.rel.includes("noopener"))`)
	h.press(kb.Escape)
	h.holds("the focus is back", `!document.querySelector('dialog[open]') && document.activeElement.closest("tr")?.dataset.row === "0"`)
	h.click(chip("Critical"))
	h.holds("only critical ones", `[...document.querySelectorAll('tr.row')].every(r => r.innerText.startsWith("critical"))`)
	h.click(chip("Has a fix"))
	h.click(`//th//button[contains(., "EPSS")]`)
	h.holds("sorted", `location.search.includes("sort=-epss") && document.querySelector('th[aria-sort="descending"]')`)
	h.fill("within", "lodash")
	h.rows("tr.row", 1)
	h.shot("image-chosen")
	h.click(button("CSV"))
	if text := h.download("bulkhead-" + strings.NewReplacer(":", "-", "/", "-").Replace(v1) + "-vulnerabilities.csv"); !strings.Contains(text, "CVE-2019-10744,critical,lodash,4.17.11,4.17.12,false,0.14,9.8,npm,") {
		h.t.Error(text)
	}
	h.fill("within", "nothing of the kind")
	h.says("No vulnerability fits what is chosen.")
}

func (h *harbour) tryTabs() {
	h.fill("within", " ")
	h.press(kb.Backspace)
	for _, t := range []struct{ name, says string }{
		{"Findings", "thumb.php"}, {"Packages", "libacl1"}, {"Layers", "COPY --chown=www-data shop /var/www/html"},
	} {
		h.click(tab(t.name))
		h.says(t.says)
		h.accessible(t.name)
		h.widths("image-"+strings.ToLower(t.name), 2300)
	}
	h.do("focus the tab", chromedp.Focus(tab("Layers")))
	h.press(kb.ArrowLeft)
	h.holds("an arrow goes to the next tab", `document.activeElement.id === "tab-packages" && document.activeElement.ariaSelected === "true"`)
	h.click(button("Scan again"))
	h.says("✓ scanned")
}

func (h *harbour) tryDifference(v1, v2 string) {
	h.value(fmt.Sprintf(`(() => { const s = document.getElementById('compare'); s.value = %q; s.dispatchEvent(new Event("change", {bubbles: true})); })()`, v2))
	h.says("Difference of two images")
	h.holds("both sides", fmt.Sprintf(`document.getElementsByName("from")[0].value === %q && document.getElementsByName("to")[0].value === %q`, v2, v1))
	h.click(`//button[@aria-label="Swap the two"]`)
	h.says("It ends")
	h.says("CVE-2022-23529")
	h.accessible("difference")
	h.widths("difference", 900)
	for _, t := range []struct{ name, says string }{
		{"Fixed", "CVE-2024-4577"}, {"Findings", "deploy.pem"}, {"Changed", "4.17.21"}, {"Added", "jsonwebtoken"}, {"Removed", "follow-redirects"},
	} {
		h.click(tab(t.name))
		h.says(t.says)
	}
	h.click(tab("Findings"))
	h.accessible("difference, findings")
	h.widths("difference-findings", 1200)
	h.click(tab("Changed"))
	h.widths("difference-changed", 1200)
	h.holds("the command", fmt.Sprintf(`document.querySelector('.export code').innerText === "bulkhead images diff %s %s"`, v1, v2))
	h.fill("to", h.hub.host+"/team/shop:v3")
	h.press(kb.Enter)
	h.says("was not scanned")
	h.clean("404")
}

func (h *harbour) tryNowhere() {
	h.visit(h.URL + "/images/image?ref=" + h.hub.host + "/team/other:v1")
	h.says("was not scanned")
	h.widths("image-unknown", 700)
	h.accessible("image, unknown")
	h.visit(h.URL + "/nowhere/at-all")
	h.says("There is no such page")
	h.accessible("no such page")
	h.click(`//main//a`)
	h.says("ATT&CK techniques seen")
	h.accessible("overview")
	h.widths("overview", 1400)
	h.click(`//nav//a[text()="Images"]`)
	h.rows("[data-image]", 3)
	h.clean("404")
}

func (h *harbour) tryImagesAway() {
	h.fill("wanted", "half a na")
	h.stop()
	h.click(chip("Exploited"))
	h.says("The server does not answer")
	h.widths("images-away", 700)
	h.holds("what was typed is kept, and what was known", `document.getElementsByName("wanted")[0].value === "half a na" && document.querySelector('[data-image]')`)
	h.clean("net::ERR_", "Failed to load")
}

// TestHostileImage scans an image that has every payload wherever it has words, and opens everything.
func TestHostileImage(t *testing.T) {
	h := moor(t, append(hostileFeed(), advisories...))
	h.visit(h.URL + "/images")
	h.signIn(h.plane, h.password)
	reference, _ := h.hub.push("evil/image:v1", hostileImage(t))
	h.says("No image was scanned yet.")
	h.scan(reference)
	h.harmless()
	h.shot("hostile-images")
	h.visit(h.URL + "/images/image?ref=" + reference)
	h.says(payloads[0]) // as text
	h.harmless()
	h.accessible("hostile image")
	h.widths("hostile-image", 1800)
	drawn, err := strconv.Atoi(h.value(`document.querySelectorAll('[data-vulnerability]').length`))
	if err != nil || drawn < len(payloads)/2 {
		t.Error("too little to look at: ", drawn, " vulnerabilities, ", err)
	}
	for i := range drawn {
		h.value(fmt.Sprintf(`document.querySelectorAll('[data-vulnerability]')[%d].click()`, i))
		h.holds("it opens", `document.querySelector('dialog[open]')`)
		h.harmless()
		h.value(`document.querySelector('dialog[open] form button').click()`)
		h.holds("it closes", `!document.querySelector('dialog')`)
	}
	for _, name := range []string{"Findings", "Packages", "Layers"} {
		h.click(tab(name))
		h.value(`document.querySelectorAll('details').forEach(d => d.open = true)`)
		h.harmless()
		h.accessible("hostile " + name)
		h.widths("hostile-image-"+strings.ToLower(name), 1400)
	}
	for _, p := range payloads {
		h.value(fmt.Sprintf(`(f => (f.value = %q, f.dispatchEvent(new Event("input", {bubbles: true}))))(document.getElementsByName("within")[0] ?? document.createElement("input"))`, p))
		h.harmless()
	}
	for _, p := range payloads { // and what a link that somebody sends has in it
		h.visit(h.URL + "/images?q=" + url.QueryEscape(p) + "&having=" + url.QueryEscape(p) + "&sort=" + url.QueryEscape(p))
		h.harmless()
		h.visit(h.URL + "/images/image?ref=" + url.QueryEscape(p) + "&tab=" + url.QueryEscape(p))
		h.harmless()
		h.visit(h.URL + "/images/difference?from=" + url.QueryEscape(p) + "&to=" + url.QueryEscape(reference))
		h.harmless()
	}
	h.clean("404", "400")
}

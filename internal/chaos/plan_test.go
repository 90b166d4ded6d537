package chaos_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kinds of faults.
const (
	killed         = "killed"          // kill -9; restarted when the fault is over
	frozen         = "frozen"          // suspended (SIGSTOP), then resumed
	rendererKilled = "renderer killed" // kill -9 of a worker's render process
	diskFull       = "disk full"
	slow           = "slow"   // data is delayed
	reset          = "reset"  // connections are reset at the first data
	cut            = "cut"    // connections are closed, new ones refused
	silent         = "silent" // data is dropped
)

// fault is one fault of limited duration.
type fault struct {
	at, lasts time.Duration
	kind      string
	target    string // a process, a link between two, or the disk
}

// post is one request to process photos, by their numbers.
type post struct {
	at     time.Duration
	photos []int
	kill   time.Duration // how long after the request the API is killed; 0 means never
}

// deletion is a request to delete a photo, by its number.
type deletion struct {
	at    time.Duration
	photo int
}

// plan is everything that a seed determines.
type plan struct {
	seed    uint64
	photos  int // rows; the last ones are never posted
	missing int // posted UUIDs without a row, numbered after the photos
	posts   []post
	deletes []deletion
	faults  []fault
	bad     float64 // fraction of bad responses of the sources
	maxBad  int     // most bad responses of one source
}

const (
	// startDirectly is START_DIRECTLY of the API under test: larger posts are
	// started by a workflow.
	startDirectly = 20
	neverPosted   = 3
	deletions     = 5
)

// scale is the size of a plan.
type scale struct {
	photos int
	window time.Duration // within which all posts and faults begin

	// maxBad is the most bad responses of one source. After three the photo has waited
	// 2 + 6 + 18 seconds, about the cost of a lost worker. A fourth would cost 54
	// seconds, a fifth would fail the photo.
	maxBad int

	// A killed worker costs its photos a heartbeat timeout of 30 seconds. The short
	// form, part of every test run, kills none; TestEndToEnd does.
	killWorkers bool
}

var (
	whole = scale{photos: 100, window: 12 * time.Second, maxBad: 3, killWorkers: true}
	short = scale{photos: 40, window: 5 * time.Second, maxBad: 2}
)

// calm is a small batch without faults, with photos of each kind.
func calm() plan {
	return plan{seed: 1, photos: 10, missing: 1, posts: []post{{photos: []int{0, 1, 2, 3, 4, 5, 6, 10}}}}
}

func draw(seed uint64, s scale) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(r.Int64N(int64(high-low)))
	}
	p := plan{seed: seed, photos: s.photos, missing: 2, bad: badAnswers, maxBad: s.maxBad}

	// One large post, many small ones, and some photos again, while they are processed
	// or later.
	numbers := r.Perm(s.photos + p.missing)
	numbers = slices.DeleteFunc(numbers, func(n int) bool { return n >= s.photos-neverPosted && n < s.photos })
	large := len(numbers) * 2 / 5
	p.posts = append(p.posts, post{photos: numbers[:large]})
	for few := range slices.Chunk(numbers[large:], 8) {
		p.posts = append(p.posts, post{photos: few})
	}
	r.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
	p.posts = append(p.posts, post{photos: numbers[:startDirectly+1]}, post{photos: numbers[startDirectly+1:][:8]})
	for i := range p.posts {
		p.posts[i].at = between(0, s.window*3/4)
	}
	for range 2 { // a request takes about 10 ms
		p.posts[r.IntN(len(p.posts))].kill = between(time.Millisecond, 40*time.Millisecond)
	}
	slices.SortStableFunc(p.posts, func(a, b post) int { return cmp.Compare(a.at, b.at) })
	for _, number := range r.Perm(s.photos - neverPosted)[:deletions] { // before, while or after they are processed
		p.deletes = append(p.deletes, deletion{at: between(0, s.window), photo: number})
	}

	// Faults of one target do not overlap.
	add := func(target string, number int, longest time.Duration, kinds ...string) {
		slot := s.window / time.Duration(max(number, 1))
		for i := range number {
			lasts := between(longest/8, longest)
			p.faults = append(p.faults, fault{
				at:    time.Duration(i)*slot + between(0, max(slot-lasts, time.Millisecond)),
				lasts: lasts, kind: kinds[r.IntN(len(kinds))], target: target,
			})
		}
	}
	longest := s.window / 4
	if s.killWorkers {
		add("worker-1", 1+r.IntN(2), longest, killed)
		add("worker-2", r.IntN(2), longest, killed)
	}
	add("api", 1, longest, killed)
	add("temporal", 1+r.IntN(2), longest, killed)
	add("postgres", 1+r.IntN(2), longest, killed)
	add("disk", 1, longest, diskFull)
	for _, worker := range workers {
		add(worker, 1+r.IntN(2), longest, rendererKilled)
	}
	for _, link := range links {
		add(link, r.IntN(3), longest, slow, reset, cut, silent)
	}
	if s.killWorkers && r.IntN(3) == 0 {
		// Longer than the heartbeat timeout: other workers have taken over its photos
		// when it resumes.
		p.faults = append(p.faults, fault{
			at: between(0, s.window/2), lasts: between(31*time.Second, 37*time.Second), kind: frozen, target: "worker-2",
		})
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	return p
}

func (p plan) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "seed %d: %d photos, %d posts, %d faults\n", p.seed, p.photos, len(p.posts), len(p.faults))
	for _, post := range p.posts {
		fmt.Fprintf(&text, "  %6.3f s  post %d photos", post.at.Seconds(), len(post.photos))
		if post.kill > 0 {
			fmt.Fprintf(&text, ", and kill the API %s later", post.kill.Round(time.Millisecond))
		}
		text.WriteByte('\n')
	}
	for _, d := range p.deletes {
		fmt.Fprintf(&text, "  %6.3f s  delete photo %d\n", d.at.Seconds(), d.photo)
	}
	for _, f := range p.faults {
		fmt.Fprintf(&text, "  %6.3f s  %s: %s for %.3f s\n", f.at.Seconds(), f.target, f.kind, f.lasts.Seconds())
	}
	return text.String()
}

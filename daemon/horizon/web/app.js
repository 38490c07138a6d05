'use strict';
(() => {
  const trusted = window.trustedTypes
    ? trustedTypes.createPolicy('horizon', {createHTML: s => s})
    : {createHTML: s => s};

  // Logging in: the code stands in the fragment, which is not sent by itself.
  const login = document.getElementById('login');
  if (login) {
    const redeem = () => {
      const code = location.hash.slice(1);
      if (!code) { login.elements.code.focus(); return; }
      history.replaceState(null, '', '/login');
      fetch('/login', {method: 'POST', body: new URLSearchParams({code})}).then(r => {
        if (r.ok) { location.replace('/'); return; }
        const p = document.getElementById('problem');
        p.textContent = 'This code was used already, or is too old.';
        p.hidden = false;
      });
    };
    addEventListener('hashchange', redeem); // a new link, pasted while this page is open
    redeem();
    return;
  }
  if (!('live' in document.body.dataset)) return;

  // morph makes an element like another and leaves alone what is the same already, so
  // that focus, selection and open details stay.
  const key = n => n.nodeType === 1 ? n.getAttribute('data-key') || n.id || '' : '';
  function morph(from, to) {
    for (const a of [...from.attributes]) if (!to.hasAttribute(a.name) && a.name !== 'open') from.removeAttribute(a.name);
    for (const a of to.attributes) if (from.getAttribute(a.name) !== a.value) from.setAttribute(a.name, a.value);
    children(from, to);
  }
  function children(from, to) {
    let at = from.firstChild;
    for (const want of [...to.childNodes]) {
      const k = key(want);
      if (k && (!at || key(at) !== k)) {
        const old = [...from.children].find(c => key(c) === k);
        if (old) { from.insertBefore(old, at); at = old; }
      }
      if (at && at.nodeType === want.nodeType && at.nodeName === want.nodeName && key(at) === k) {
        if (at.nodeType === 1) morph(at, want);
        else if (at.data !== want.data) at.data = want.data;
        at = at.nextSibling;
      } else {
        from.insertBefore(want, at);
      }
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  }
  function replace(id, html) {
    const element = document.getElementById(id);
    if (!element) return;
    const t = document.createElement('template');
    t.innerHTML = trusted.createHTML(html);
    children(element, t.content);
  }

  // Who listens to the page hears a new verdict at once, and its numbers now and then.
  const announce = document.getElementById('announce');
  let level = document.body.dataset.level, last = 0;
  const favicon = document.getElementById('favicon');
  function sign(name) {
    const href = '/icon/' + name + '.svg';
    if (favicon.getAttribute('href') !== href) favicon.setAttribute('href', href);
  }
  function tell(news) {
    const now = Date.now();
    if (news.level !== level || now - last > 60000) {
      if (announce.textContent !== news.sentence) announce.textContent = news.sentence;
      last = now;
    }
    if (news.level !== level) {
      level = news.level;
      document.body.dataset.level = level;
      sign(level);
    }
  }

  // Old news must not look like news.
  const lost = document.getElementById('lost'), feed = document.getElementById('feed');
  let title = document.title, heard = Date.now(), stream = null, timer = 0, wait = 1000, over = false;
  function alive() {
    heard = Date.now();
    wait = 1000;
    lost.hidden = true;
    document.body.classList.remove('stale');
    sign(level);
    if (feed.textContent !== 'Live') feed.textContent = 'Live';
    feed.classList.add('on');
    if (document.title !== title) document.title = title;
  }
  function dead(text) {
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = false;
    document.body.classList.add('stale');
    feed.textContent = 'Not live';
    feed.classList.remove('on');
    document.title = 'No news – Horizon';
    sign('unknown');
  }
  function again() {
    if (stream) stream.close();
    stream = null;
    clearTimeout(timer);
    if (over) return;
    timer = setTimeout(open, wait);
    wait = Math.min(wait * 2, 15000);
  }
  function open() {
    stream = new EventSource('/events' + location.search);
    stream.addEventListener('beat', alive);
    stream.addEventListener('news', e => {
      const news = JSON.parse(e.data);
      title = news.title;
      alive();
      for (const id in news.parts) replace(id, news.parts[id]);
      tell(news);
    });
    stream.addEventListener('end', () => {
      over = true;
      stream.close();
      dead('You are logged out. “ipfscloud horizon” opens the page again.');
    });
    stream.onerror = again;
  }
  setInterval(() => {
    if (over || Date.now() - heard < 12000) return;
    dead('No news since ' + new Date(heard).toLocaleTimeString() + '. What stands below is old. If the daemon was started anew, “ipfscloud horizon” opens its page.');
    if (Date.now() - heard > 30000 && stream && stream.readyState === 1) again(); // open, and silent
  }, 1000);
  addEventListener('pagehide', () => stream && stream.close());
  addEventListener('pageshow', e => { if (e.persisted) again(); });
  open();
})();

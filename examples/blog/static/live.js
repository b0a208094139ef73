// Follows the disk: fetches the part of the page that changes, once a second, and changes only what differs, so that what a person has focused or is
// reading stays where it is. Without this script the page loads itself again.
'use strict';
const live = document.getElementById('live');
const trouble = document.getElementById('trouble');

// Makes `old` like `fresh`. Children with an id are the same thing before and after.
function follow(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const stays = new Set([...fresh.children].map(child => child.id));
  for (const child of [...old.children]) if (child.id && !stays.has(child.id)) child.remove();
  const known = new Map([...old.children].filter(child => child.id).map(child => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = child.id ? known.get(child.id) : at && !at.id && at.nodeName === child.nodeName ? at : undefined;
    if (!same) {
      old.insertBefore(child, at);
      child.classList?.add('new');
      continue;
    }
    if (same !== at) old.insertBefore(same, at);
    if (same.nodeType !== Node.ELEMENT_NODE) same.data = child.data;
    else if (!same.isEqualNode(child)) follow(same, child);
    at = same.nextSibling;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

async function look() {
  if (!document.hidden) {
    try {
      const answer = await fetch(live.dataset.from, { cache: 'no-store' });
      if (!answer.ok) throw new Error(answer.statusText);
      const fresh = live.cloneNode(false);
      fresh.innerHTML = await answer.text();
      follow(live, fresh);
      trouble.hidden = true;
    } catch {
      trouble.hidden = false;
    }
  }
  setTimeout(look, 1000);
}

if (!('paused' in live.dataset)) setTimeout(look, 1000);

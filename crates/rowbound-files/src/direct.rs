//! Direct uploads: the client writes to S3 itself, with a URL that allows one file of one size and one type.
//!
//! In: what the client says that it will send. Out: a [`Ticket`]; later, when the client says that it has, the value for the row. Promise: the name is ours and
//! cannot be guessed; it is staged before the URL is given out, so that what is sent and never confirmed is collected; what is confirmed was looked at.

use std::time::Duration;

use rowbound::{
    FileName,
    queue::Waiting,
    storage::{Access, Look, Signed},
};

use crate::{
    error::{Error, Kind, Result},
    files::Files,
    kind::{HEAD, media_type, picture_extensions},
    names,
    upload::too_large,
    value::Value,
};

/// The right to upload one file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(::serde::Serialize))]
pub struct Ticket {
    /// What the client sends back to [`Files::confirm`].
    pub name: String,
    /// The request to make, with the file as its body.
    pub request: Signed,
}

/// The event of a name that was given out to a client.
const DIRECT: &str = "direct";

impl<T: Value> Files<T> {
    /// A URL to which a client may write one file of `size` bytes and of the type that it says, within `ttl`.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::Empty`], [`Kind::Type`] for what the field would not take; [`Kind::Config`] where the storage has no such URLs, or the field processes
    /// its pictures: those must come through the application.
    pub async fn presign_upload(&self, name: &str, size: u64, media_type: &str, ttl: Duration) -> Result<Ticket> {
        let said = &self.field.said;
        let named = |e: Error| e.with("field", self.field.column());
        if said.process.is_some() {
            return Err(named(Error::new(Kind::Config, "what a client writes to the storage itself is not processed"))
                .hint("send pictures through the application, or make forms of them afterwards with a spec"));
        }
        if size > said.max_size {
            return Err(named(too_large(said.max_size)));
        }
        if size == 0 && !said.allow_empty {
            return Err(named(Error::new(Kind::Empty, "the file is empty")));
        }
        said.check_type(media_type, T::IMAGE).map_err(named)?;
        let extension = if T::IMAGE { picture_extensions(media_type) } else { None };
        // Never the name that was asked for: it cannot be guessed, and nothing lies there.
        let wanted = said.name(name, media_type, extension).map_err(named)?;
        let name = names::unguessable(&wanted, said.max_length)?;
        let ticket = self.store.storage.sign(&name, &Access::Put { size, content_type: media_type.to_owned() }, ttl).await?;
        // The file may come as late as the URL holds; from then on its row has as long as any.
        self.store.announce(DIRECT, &name, self.store.plan.staged_for().saturating_add(ttl)).await?;
        Ok(Ticket { name: name.as_str().to_owned(), request: ticket })
    }

    /// What to put into the row for a file that a client has written with a [`Ticket`]. `name` is the client's word: only a name that was given out and waits for its row is
    /// taken, and its size and type are looked at. The row has half of `stage_ttl` at least: what would leave it less counts as too late.
    ///
    /// # Errors
    /// [`Kind::Unconfirmed`] for any other name, or where there is no file; [`Kind::TooLarge`], [`Kind::Type`]: the file is let go.
    pub async fn confirm(&self, name: &str) -> Result<T> {
        let no = |why: &str| Error::new(Kind::Unconfirmed, why.to_owned()).with("field", self.field.column()).hint("upload the file again");
        let name = FileName::parse(name).map_err(|why| no(&format!("the name {why}")))?;
        let waits = self.store.db.waiting(&[name.as_str().to_owned()]).await?;
        let until = self.store.db.now().await? + self.store.plan.staged_for() / 2;
        // Not what `save` has staged: such names can be guessed, and are somebody else's. What a worker has had in its hands may go at any moment.
        let in_time = |w: &Waiting| w.due_at.is_some_and(|due| due > until) && w.note.is_none() && !w.claimed;
        if !waits.iter().any(|w| w.event == DIRECT && w.binding.is_none() && in_time(w)) {
            return Err(no("no upload of this name was announced, or its time is over"));
        }
        let Look::Seen(seen) = self.store.storage.look(std::slice::from_ref(&name)).await?.remove(0)? else {
            return Err(no("the file has not come"));
        };
        let checked = async {
            let said = &self.field.said;
            if seen.size > said.max_size {
                return Err(too_large(said.max_size));
            }
            if seen.size == 0 && !said.allow_empty {
                return Err(Error::new(Kind::Empty, "the file is empty"));
            }
            let head = self.store.storage.read(&name, HEAD).await?.ok_or_else(|| no("the file is gone"))?;
            let kind = media_type(&head, name.base());
            said.check_type(kind, T::IMAGE)?;
            match T::IMAGE.then(|| picture_extensions(kind)).flatten() {
                Some((_, all)) if names::with_extension(name.base(), all, "") != name.base() => {
                    Err(Error::new(Kind::Type, "the picture is of another format than was announced").with("type", kind))
                }
                _ => Ok(()),
            }
        };
        match checked.await {
            Ok(()) => Ok(T::made(name.as_str().to_owned())),
            Err(e) => {
                if e.is_uploads_fault() {
                    self.store.delete(&name).await?;
                }
                Err(e.with("field", self.field.column()))
            }
        }
    }
}

"""MoCoOp's text side: prompts and features of the experts, and what its losses compare them with."""

import itertools
import random

import torch

from basics import UserError
from learning import PromptTrainer
from learning.support import SplitFeatures
from prompting import Insertions, template_programs, unit, word_programs
from prompting.descriptions import sentence_programs, sentences_of
from prompting.insertions import NOTHING

from . import losses, parts

PARTIAL_PLANS = 64  # plans of chosen experts that are kept


class Experts(SplitFeatures, PromptTrainer):
    """G experts, C classes, E width of the common space; ``groups`` and ``ctx_lengths`` are set with the learner."""

    def expert_programs(self, g, readouts, offset=0):
        """Expert g's programs for several (class names, with full stop?) lists; its learned rows are ``offset`` …."""
        programs_of = word_programs if self.options.CONTEXT_COUNT == "words" else template_programs
        template, tokenizer = self.groups[g].templates[0], self.clip.tokenizer
        return [p for names, stop in readouts for p in programs_of(template, names, offset, stop, tokenizer)]

    def experts_plan(self, readouts):
        """Plan of all experts for the lists of ``expert_programs``, which share each expert's prefix."""
        offsets = itertools.accumulate(self.ctx_lengths, initial=0)
        return self.plan([self.expert_programs(g, readouts, offset) for g, offset in zip(range(len(self.groups)), offsets)])

    def expert_features(self, plan, ctx=None, text_prompts=None):
        """Unit text features [G, C, E] of every expert of a plan, the correction added where there is one.

        Args: contexts, and the rows that replace them in deeper layers, that its programs refer to; None: the learner's.
        """
        ctx = self.learner.ctx if ctx is None else ctx
        deep = self.learner.text_prompts if text_prompts is None else text_prompts
        used = getattr(plan, "num_learned", None)  # a plan of some experts may refer to the first rows only
        insertions = Insertions(rows={layer: rows[:used] for layer, rows in enumerate(deep, 1)}) if len(deep) else NOTHING
        if self.learner.correction is None:
            return self.encode(plan, ctx, insertions=insertions)
        return unit(self.encode(plan, ctx, raw=True, insertions=insertions) + self.learner.correction)

    def features_for(self, plan, scores, turn=None):
        """``expert_features`` of what a training batch with router scores [B, G] needs: zeros for experts left out.

        Without a text loss, experts that no image chose have weight 0 and no gradient: leaving them out changes nothing. With
        one that takes the experts ``turn`` alone, neither does leaving out those that aren't among them.
        """
        every = self.options.TEXT_LOSS != "none" and turn is None and not self.leaves_out
        if every or self.options.SELF_REGULARISATION:
            return self.expert_features(plan)
        chosen = () if turn and self.options.META_NET else scores.topk(self.options.TOP_K, dim=-1).indices.unique().tolist()
        chosen = sorted({*chosen, *(turn or ())})
        if len(chosen) == len(self.groups):
            return self.expert_features(plan)
        if turn is None:
            features = self.expert_features(self.part_of(plan, tuple(chosen)))
        else:  # sets of experts differ from step to step, and making a plan of many classes takes long: one of each expert
            features = torch.cat([self.expert_features(self.part_of(plan, (g,))) for g in chosen])
        every = features.new_zeros(len(self.groups), *features.shape[1:])
        return every.index_copy(0, torch.tensor(chosen, device=self.device), features)

    def experts_in_turn(self):
        """Numbers of the experts that this step's text loss takes (TEXT_EXPERTS); None for all.

        They are neighbours in an order that the seed decides, and go on with the steps of the run: each gets its turn as often.
        """
        count, total = self.options.TEXT_EXPERTS, len(self.groups)
        if not count or count == total:
            return None
        order = random.Random(self.cfg.SEED).sample(range(total), total)
        first = (self.epoch * self.num_batches + self.batch_idx) * count
        return sorted(order[(first + i) % total] for i in range(count))

    @property
    def scale(self):
        """The factor on cosines: 1 / TAU, or CLIP's own."""
        return 1 / self.options.TAU if self.options.TAU else self.clip.logit_scale

    def text_loss(self, text_features, turn):
        """L_text of soft features [G, C, E], of the experts in ``turn`` or, where it is None, of all."""
        targets, o = self.training_targets(), self.options
        if turn is not None:
            text_features = text_features[turn]
        if o.TEXT_LOSS == "templates":
            stacks = targets.stacks if turn is None else losses.by_template_count([targets.hard[g] for g in turn])
            return losses.text_loss_templates(text_features, stacks, o.TAU or 1.0)
        return losses.text_loss_prototype(text_features, targets.prototypes if turn is None else targets.prototypes[turn])

    def check_text_experts(self, groups):
        """UserError for a TEXT_EXPERTS that these groups don't have, or that has no effect."""
        o = self.options
        if o.TEXT_EXPERTS > len(groups):
            raise UserError(f"TRAINER.MOCOOP.TEXT_EXPERTS {o.TEXT_EXPERTS} is more than the {len(groups)} experts there are")
        other = "TEXT_LOSS none" if o.TEXT_LOSS == "none" else f"CHOSEN_BELOW {o.CHOSEN_BELOW}" if self.leaves_out else ""
        if o.TEXT_EXPERTS and other:
            raise UserError(
                f"TRAINER.MOCOOP.TEXT_EXPERTS {o.TEXT_EXPERTS} has no effect with TRAINER.MOCOOP.{other}; leave out one"
            )

    @property
    def leaves_out(self):
        """Whether training batches are so small that the released code leaves experts out."""
        return self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE < self.options.CHOSEN_BELOW

    def part_of(self, plan, chosen):
        """Plan of the chosen experts alone; the latest are kept."""
        key = id(plan), chosen
        if key not in self._partial_plans:
            if len(self._partial_plans) >= PARTIAL_PLANS:
                self._partial_plans.pop(next(iter(self._partial_plans)))
            self._partial_plans[key] = self.plan([plan.programs[g] for g in chosen])
        return self._partial_plans[key]

    def hard_groups(self, classnames):
        """G tensors [I, C, E] of unit text features that guide the experts: of a group's I templates.

        Of a group of descriptions I is 1: each class's unit mean over its sentences' unit features.
        """
        if not any(g.sentences for g in self.groups):
            return [self.hard_features(g.templates, classnames) for g in self.groups]
        found, cut, total = [], 0, 0
        for group in sentences_of(self.groups, classnames):
            programs, longer = sentence_programs([text for texts in group for text in texts], self.clip.tokenizer)
            cut, total = cut + longer, total + len(programs)
            with torch.no_grad():
                features = self.clip.encode_text(self._compile([programs]))[0]  # [sentences of all classes, E]
            parts_of_classes = features.split([len(texts) for texts in group])
            found.append(unit(torch.stack([part.mean(dim=0) for part in parts_of_classes]))[None])
        print(
            f"Descriptions: {total} sentences guide {len(found)} experts"
            + (f"; {cut} are cut to the text encoder's length" * bool(cut))
        )
        return found

    def training_targets(self):
        """What the losses compare with, computed when training first asks for it."""
        if self._targets is None:
            o, seen = self.options, self.dm.dataset.classnames
            every = list(getattr(self.dm.dataset, "all_classnames", seen)) if o.TEXT_CLASSES == "all" else list(seen)
            stacks = losses.by_template_count(self.hard_groups(every))
            hard = {g: tensor[k] for numbers, tensor in stacks for k, g in enumerate(numbers)}
            hard = [hard[g] for g in range(len(self.groups))]  # G tensors [I, C, E], parts of the stacks
            rows = torch.tensor([every.index(name) for name in seen], device=self.device)
            stop = o.FULL_STOP or every != list(seen)
            if o.FULL_STOP == stop or o.META_NET:  # one read-out: classification takes the rows of the training classes, or none
                plan, class_rows, text_rows = self.experts_plan([(every, stop)]), rows, slice(None)
            else:  # two read-outs of the same prefixes
                plan = self.experts_plan([(every, True), (seen, False)])
                class_rows, text_rows = slice(len(every), None), slice(0, len(every))
            self._targets = parts.Targets(
                stacks=stacks,
                hard=hard,
                prototypes=unit(torch.stack([h.mean(dim=0) for h in hard])),
                means=unit(torch.stack([h[:, rows].mean(dim=(0, 1)) for h in hard])),
                seen=rows,
                plan=plan,
                class_rows=class_rows,
                text_rows=text_rows,
            )
        return self._targets
